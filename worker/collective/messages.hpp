// Point-to-point messages between ranks that never block. Used by one thread of a rank at a time,
// beside whatever its other threads do with the Communicator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace rackmark::worker {

class Messages {
 public:
  using Ticket = std::size_t;
  // Gives up what is not finished; no peer may still wait for it.
  virtual ~Messages() = default;

  // Starts; the bytes stay alive and untouched until the ticket is finished. Messages of equal
  // sender, receiver and tag arrive in the order in which they were sent. A rank may send to
  // itself. At most 2^31 - 1 bytes, and exactly as many as the receiver wants.
  virtual Ticket send(std::int64_t to, int tag, std::span<const std::byte> bytes) = 0;
  virtual Ticket receive(std::int64_t from, int tag, std::span<std::byte> bytes) = 0;

  // Moves messages on and gives the tickets that were finished since the last call. A ticket given
  // here may be used again for a later message.
  virtual std::vector<Ticket> progress() = 0;
};

// Messages between threads of one process: of a single rank, which only talks to itself, and of
// tests. One place for all, each rank opens its own end; ends keep the place alive.
class Mailboxes;
std::shared_ptr<Mailboxes> make_mailboxes();
std::unique_ptr<Messages> open_mailbox(std::shared_ptr<Mailboxes> mailboxes, std::int64_t rank);

}  // namespace rackmark::worker
