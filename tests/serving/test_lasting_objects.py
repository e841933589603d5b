"""Lasting objects are passed over, and garbage that comes later is still found."""

import subprocess
import sys

LASTING = """
import gc, weakref
from serving.lasting_objects import pass_over_lasting_objects
class Node: pass
def circle():
    node = Node()
    node.itself = node
    return weakref.ref(node)
lasting, before = [Node() for _ in range(1000)], circle()
pass_over_lasting_objects(once_collected=True)
collected = before() is None
seen = sum(isinstance(each, Node) for each in gc.get_objects())
after = circle()
pass_over_lasting_objects(once_collected=True)  # once is enough: what is garbage by now must be found
gc.collect()
print(gc.get_freeze_count() >= 1000, seen, collected, after() is None)
"""


def test_what_lasts_is_passed_over_and_garbage_found():
    told = subprocess.run([sys.executable, "-c", LASTING], capture_output=True, check=True, text=True).stdout
    assert told.split() == ["True", "0", "True", "True"]
