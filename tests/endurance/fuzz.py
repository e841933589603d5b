"""Vector and probe files damaged in thousands of ways: refused, unless nothing of them changed; nothing runs."""

import json
import random
import resource
import struct
import sys
import time
from collections import Counter

import numpy as np

from registry.errors import TrustTraceError
from registry.serialization import probe_from_bytes, probe_to_bytes, vector_from_bytes, vector_to_bytes
from registry.vectors import Lineage, LinearProbe, SteeringVector

CASES = 20_000
TYPES = ("F16", "BF16", "F64", "I8", "U64", "BOOL", "F8_E4M3", "F31", "", "F32")
EXECUTES = ("exec", "compile", "import", "os.system", "subprocess.Popen", "pickle.find_class", "open", "socket.connect")


def originals():
    direction = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    place = ("tiny", "models:/ckpt.tiny/2", 64, "step_000064", "ab" * 32, "cd" * 32)
    lineage = Lineage(*place, "packaged:remarks", "mass-mean", "r1", "c1", 80)
    vector = SteeringVector.at_layer("toxicity", direction / np.linalg.norm(direction), 0.3, 1, lineage, 3.0, -0.5)
    probe = LinearProbe("toxicity", 1, direction, 0.25, lineage)
    return (
        (vector_to_bytes(vector), vector_from_bytes, vector_to_bytes),
        (probe_to_bytes(probe), probe_from_bytes, probe_to_bytes),
    )


def _parts(content):
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _joined(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def truncated(content, chance):
    return content[: chance.randrange(len(content))]


def flipped(content, chance):
    damaged = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 16, 256))):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def retyped(content, chance):
    header, body = _parts(content)
    tensor = next(value for key, value in header.items() if key != "__metadata__")
    tensor["dtype"] = chance.choice(TYPES)
    if chance.random() < 0.5:
        tensor["shape"] = [
            chance.choice((0, 1, 63, 64, 65, 128, -1, 1 << 40)) for _ in range(chance.choice((0, 1, 2, 3)))
        ]
    if chance.random() < 0.5:
        tensor["data_offsets"] = [chance.choice((0, 4, 256, 1 << 50)) for _ in range(2)]
    return _joined(header, body)


def lengthened(content, chance):
    """A header that claims to be huge, or is."""
    if chance.random() < 0.7:
        claimed = chance.choice((1 << 30, 1 << 40, (1 << 63) - 1, (1 << 64) - 1, 100_000_001, len(content), 0))
        return struct.pack("<Q", claimed) + content[8:]
    header, body = _parts(content)
    header["__metadata__"]["padding"] = "x" * chance.choice((1 << 10, 1 << 16, 1 << 20))
    return _joined(header, body)


def rewritten(content, chance):
    """A header whose words are other words, numbers, lists, or text that wants to be run."""
    header, body = _parts(content)
    words = header["__metadata__"]
    hostile = ("nan", "inf", "-1e999", "__import__('os').system('true')", "\0", "9" * 5000, "١٢", "", "{}", "../../x")
    for key in chance.sample(sorted(words), chance.choice((1, 2, 5))):
        words[key] = chance.choice((*hostile, 7, None, ["a"], {"b": 1}))
    if chance.random() < 0.2:
        del words[chance.choice(sorted(words))]
    return _joined(header, body)


def spliced(content, chance):
    start, length = chance.randrange(len(content)), chance.choice((1, 8, 100))
    return content[:start] + chance.randbytes(length) + content[start + chance.choice((0, length)) :]


def overwritten(content, chance):
    """Numbers that are none, in a file that is whole."""
    header, body = _parts(content)
    values = np.frombuffer(body, "<f4").copy()
    values[chance.randrange(len(values))] = chance.choice((np.nan, np.inf, -np.inf, 1e38, 0.0))
    return _joined(header, values.tobytes())


MUTATIONS = (truncated, flipped, retyped, lengthened, rewritten, spliced, overwritten)


def test_damaged_files_are_refused_or_are_what_they_say(say):
    chance, came = random.Random(0), Counter()
    files = originals()
    for content, read, _ in files:
        read(content)
    done: list[str] = []
    watching: list[bool] = []
    sys.addaudithook(lambda event, _: done.append(event) if watching and event in EXECUTES else None)
    before, slowest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0
    for _ in range(CASES):
        content, read, write = chance.choice(files)
        mutate = chance.choice(MUTATIONS)
        damaged = mutate(content, chance)
        began = time.perf_counter()
        watching.append(True)
        try:
            found = read(damaged)
        except TrustTraceError as error:
            came[mutate.__name__, "refused"] += 1
            assert str(error)
        else:
            came[mutate.__name__, "read"] += 1
            assert _parts(write(found)) == _parts(content), f"{mutate.__name__} changed what was read"
        finally:
            watching.clear()
        slowest = max(slowest, time.perf_counter() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    refused = sum(n for (_, what), n in came.items() if what == "refused")
    for mutate in MUTATIONS:
        say(f"{mutate.__name__}: {came[mutate.__name__, 'refused']} refused, {came[mutate.__name__, 'read']} read")
    say(f"{CASES} files, {refused} refused; events of execution {done}; peak +{grown:.1f} MiB; slowest {slowest:.3f} s")
    assert not done
    assert grown < 64
    assert came["truncated", "read"] == 0
