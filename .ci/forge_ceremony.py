"""A ceremony with one bit of a party's proof of knowledge flipped, its file otherwise whole.

forge_ceremony.py IN OUT NAME
"""
import hashlib
import sys

source, target, name = sys.argv[1:]
file = bytearray(open(source, "rb").read())
# The party's record: its name, then commitment and response, 32 bytes each after 0x58 0x20.
place = file.index(name.encode(), 44)
for _ in range(2):
    place = file.index(b"\x58\x20", place) + 2
file[place] ^= 1
# The digest over magic, version and the rest, each field after its length.
fields = [b"nonos/zk/ceremony-file/v1", bytes(file[:7]), bytes(file[7:8]), bytes(file[40:])]
framed = b"".join(len(field).to_bytes(8, "little") + field for field in fields)
file[8:40] = hashlib.sha3_256(framed).digest()
open(target, "wb").write(file)
