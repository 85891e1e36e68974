#!/usr/bin/env python3
"""Packed pictures of noise, for runs that read real bytes: `packed.py FOLDER PICTURES SIDE CLASSES`.

The format is that of worker/input/packed_format.hpp; `rackmark-worker pack` makes it of JPEG files.
"""
import hashlib
import json
import os
import struct
import sys

HEADER = 4096
SHARD_PICTURES = 2048


def shard(number, pictures, side, classes, noise):
    """Bytes of a shard, in pieces."""
    header = struct.pack("<8sIIIIQ", b"RMPACKED", 1, number, side, classes, pictures)
    yield header.ljust(HEADER, b"\0")
    left = pictures * side * side * 3
    while left > 0:
        yield noise[:left]
        left -= len(noise)
    yield struct.pack(f"<{pictures}i", *(i % classes for i in range(pictures)))


def main():
    folder, pictures, side, classes = sys.argv[1], *map(int, sys.argv[2:5])
    os.makedirs(folder)
    noise = os.urandom(16 << 20)
    shards = []
    for number, first in enumerate(range(0, pictures, SHARD_PICTURES)):
        count = min(SHARD_PICTURES, pictures - first)
        name, digest, size = f"{number:05d}.shard", hashlib.sha256(), 0
        with open(os.path.join(folder, name), "wb") as file:
            for piece in shard(number, count, side, classes, noise):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
        shards.append({"file": name, "pictures": count, "bytes": size, "sha256": digest.hexdigest()})
    index = {"format": "rackmark packed pictures", "version": 1, "side": side, "pictures": pictures,
             "classes": [f"c{i:04d}" for i in range(classes)], "shards": shards}
    with open(os.path.join(folder, "index.json"), "w") as file:
        json.dump(index, file)
    print(f"{pictures} pictures of {side} x {side} in {len(shards)} shards")


main()
