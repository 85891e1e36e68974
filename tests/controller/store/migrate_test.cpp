#include "controller/store/migrate.hpp"

#include <gmock/gmock.h>

#include <fstream>

#include "controller/store/transaction.hpp"
#include "tests/controller/store/temp_folder.hpp"

namespace rackmark::store {
namespace {

using ::testing::HasSubstr;

class MigrateTest : public ::testing::Test {
 protected:
  std::string error_of(const std::vector<Migration>& steps) {
    try {
      Database db(file(), Database::Access::kWrite);
      migrate(db, steps, 1);
    } catch (const StoreError& e) {
      return e.what();
    }
    return "";
  }
  std::filesystem::path file() const { return folder.path() / "db.sqlite"; }

  TempFolder folder;
  std::vector<Migration> steps{{1, "0001_a.sql", "CREATE TABLE a (x INTEGER) STRICT;"},
                               {2, "0002_b.sql", "CREATE TABLE b (x INTEGER) STRICT;"}};
};

std::int64_t newest() { return embedded_migrations().back().number; }

TEST_F(MigrateTest, RealOnesApplyOnceAndKeepRows) {
  {
    Database db(file(), Database::Access::kWrite);
    EXPECT_EQ(migrate(db, embedded_migrations(), 1), newest());
    db.execute("INSERT INTO controller (id, uuid, created_us) VALUES (1, 'u', 5)");
  }
  Database db(file(), Database::Access::kWrite);
  EXPECT_EQ(migrate(db, embedded_migrations(), 2), newest());
  Query q(db, "SELECT uuid FROM controller");
  std::string uuid;
  ASSERT_TRUE(q.step());
  q.read(uuid);
  EXPECT_EQ(uuid, "u");
}

TEST_F(MigrateTest, ChangedOldFileIsRefused) {
  EXPECT_EQ(error_of(steps), "");
  steps[0].sql += " -- harmless";
  EXPECT_THAT(error_of(steps), HasSubstr("0001_a.sql was changed"));
}

TEST_F(MigrateTest, NewerSchemaIsRefused) {
  EXPECT_EQ(error_of(steps), "");
  EXPECT_THAT(error_of({steps[0]}), HasSubstr("0002_b.sql, which this version does not know"));
}

TEST_F(MigrateTest, OlderNumberAfterwardsIsRefused) {
  EXPECT_EQ(error_of({steps[1]}), "");
  EXPECT_THAT(error_of(steps), HasSubstr("0001_a.sql comes before the newest"));
}

TEST_F(MigrateTest, FailingStepLeavesNothingBehind) {
  steps[1].sql = "CREATE TABLE b (x INTEGER) STRICT; CREATE TABLE a (x INTEGER) STRICT;";
  EXPECT_THAT(error_of(steps), HasSubstr("already exists"));
  steps[1].sql = "CREATE TABLE b (x INTEGER) STRICT;";
  EXPECT_EQ(error_of(steps), "");  // table b of the failed try is not there
}

TEST_F(MigrateTest, ADatabaseIsBackedUpBeforeItsSchemaChanges) {
  EXPECT_EQ(error_of({steps[0]}), "");
  EXPECT_EQ(error_of({steps[0]}), "");  // nothing to do
  std::ofstream(file().string() + ".backup-under-way") << "half of one";
  EXPECT_EQ(error_of(steps), "");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    names.push_back(entry.path().filename());
  }
  const std::string backup = "db.sqlite.1970-01-01T000000Z";
  EXPECT_THAT(names, testing::UnorderedElementsAre("db.sqlite", backup));
  const auto before = folder.path() / backup;
  EXPECT_EQ(std::filesystem::status(before).permissions(), std::filesystem::perms(0600));
  Database db(before, Database::Access::kWrite);
  EXPECT_EQ(schema_number(db), 1);
}

TEST_F(MigrateTest, FileThatIsNoDatabaseIsRefused) {
  std::ofstream(file()) << std::string(5000, 'x');
  EXPECT_THAT(error_of(steps), HasSubstr("is not a Rackmark database"));
}

TEST_F(MigrateTest, DamagedDatabaseIsRefused) {
  {
    Database db(file(), Database::Access::kWrite);
    migrate(db, steps, 1);
    Transaction tx(db, 1);
    for (int i = 0; i < 2000; ++i) Query(db, "INSERT INTO a VALUES (?)", i).run();
    tx.commit();
  }
  {
    std::fstream raw(file(), std::ios::in | std::ios::out | std::ios::binary);
    raw.seekp(4096 + 8);
    raw << std::string(64 * 1024, '\xff');
  }
  EXPECT_THAT(error_of(steps), HasSubstr("damaged"));
}

TEST_F(MigrateTest, ReaderCannotWriteAndFileIsPrivate) {
  Database writer(file(), Database::Access::kWrite);
  migrate(writer, steps, 1);
  Database reader(file(), Database::Access::kRead);
  EXPECT_THROW(reader.execute("INSERT INTO a VALUES (1)"), StoreError);
  EXPECT_EQ(std::filesystem::status(file()).permissions(), std::filesystem::perms(0600));
}

TEST_F(MigrateTest, TransactionWithoutCommitIsUndone) {
  Database db(file(), Database::Access::kWrite);
  migrate(db, steps, 1);
  {
    Transaction tx(db, 1);
    db.execute("INSERT INTO a VALUES (1)");
  }
  Query q(db, "SELECT count(*) FROM a");
  std::int64_t count = -1;
  ASSERT_TRUE(q.step());
  q.read(count);
  EXPECT_EQ(count, 0);
}

TEST_F(MigrateTest, StatementInUseTwiceIsTwoStatements) {
  Database db(file(), Database::Access::kWrite);
  migrate(db, steps, 1);
  db.execute("INSERT INTO a VALUES (1), (2)");
  int pairs = 0;
  Query outer(db, "SELECT x FROM a");
  while (outer.step()) {
    Query inner(db, "SELECT x FROM a");
    while (inner.step()) ++pairs;
  }
  EXPECT_EQ(pairs, 4);
}

}  // namespace
}  // namespace rackmark::store
