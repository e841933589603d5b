"""Readings: clients take turns, few sequences are half read at once, and what one raises ends it alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from serving.engine.admission import Admission
from serving.engine.slots.leads import Leads
from serving.engine.slots.reading import Readings, StateReading

CHUNK = 4


class Runner:
    """Notes the pieces that it reads, and says the tokens themselves as their states."""

    def __init__(self):
        self.pieces, self.leads = [], Leads()

    def new_cache(self):
        return SimpleNamespace(layers=[SimpleNamespace(keys=np.zeros(6, np.float32), values=None)])

    def read(self, piece, layers, cache):
        self.pieces.append(list(piece))
        return {layer: np.array(piece, np.float32)[:, None] for layer in layers}


@pytest.fixture
def readings():
    return Readings(Runner(), Admission(4, 4), CHUNK, most_amid=2)


def add(readings, client, *sequences, keep=None):
    reading = StateReading(sequences, [3], client, keep)
    readings._admission.admit()
    readings.add(reading)
    return reading.future


def advance(readings, piece=CHUNK):
    """As the engine does, where every piece costs a second."""
    runner = readings._runner
    runner.leads = runner.leads.among(readings.waiting)
    reader = readings.advance(readings.clients, runner.leads.of, piece)
    runner.leads = runner.leads.charged({reader: 1.0})


def pieces_read(readings, times):
    before = len(readings._runner.pieces)
    for _ in range(times):
        advance(readings)
    return readings._runner.pieces[before:]


def test_clients_take_turns_by_the_piece(readings):
    hoard = [add(readings, "hoarder", [n] * 5, [n] * 2) for n in range(2)]
    guest = add(readings, "guest", [8] * 6)
    late = add(readings, "late", [9])
    assert pieces_read(readings, 5) == [[0] * 4, [8] * 4, [9], [0], [8] * 2]
    assert guest.done() and late.done() and not hoard[0].done()
    assert pieces_read(readings, 9) == [[0] * 2, [1] * 4, [1], [1] * 2]
    assert [len(states[3]) for states in hoard[1].result()] == [5, 2]
    assert len(readings) == readings.nbytes == readings._admission.active == 0


@pytest.mark.parametrize(
    ("piece", "answers", "lengths"), [(256, 0, {256}), (256, 1, {256, 128, 85, 64}), (128, 0, {128, 64})]
)
def test_pieces_shrink_with_depth_where_somebody_waits(piece, answers, lengths):
    readings = Readings(Runner(), Admission(4, 4), 256, most_amid=2)
    for _ in range(answers):
        readings._admission.admit()
    add(readings, "client", range(8192))
    read = []
    while len(readings):
        advance(readings, piece)
        read.append(len(readings._runner.pieces[-1]))
    assert set(read[:-1]) == lengths and read == sorted(read, reverse=True) and sum(read) == 8192


def test_few_sequences_are_half_read_at_once(readings):
    for number in range(4):
        add(readings, f"client {number}", [number] * 9)
    short = add(readings, "short", [7] * CHUNK)
    first = pieces_read(readings, 3)
    assert first == [[0] * 4, [1] * 4, [7] * 4] and short.done()
    assert readings.nbytes == 2 * 6 * 4
    most = 0
    while len(readings):
        advance(readings)
        most = max(most, readings.nbytes)
    assert most == 2 * 6 * 4
    assert sorted(map(sum, readings._runner.pieces[3:])) == [0, 0, 1, 2, 3, 4, 8, 8, 12, 12]


def test_a_short_text_is_read_whole_in_short_pieces_too(readings):
    add(readings, "long", [1] * 7)
    add(readings, "short", [2] * CHUNK)
    for _ in range(5):
        advance(readings, piece=2)
    assert readings._runner.pieces == [[1] * 2, [2] * 4, [1] * 2, [1] * 2, [1]]


def test_only_what_is_kept_of_each_piece_is_answered(readings):
    sizes = []

    def doubled(states):
        sizes.append(len(states[3]))
        return {0: 2 * states[3][:, 0]}

    future = add(readings, "", list(range(6)), keep=doubled)
    pieces_read(readings, 2)
    assert sizes == [4, 2]
    assert [values.tolist() for values in future.result()[0].values()] == [[0, 2, 4, 6, 8, 10]]


def test_a_reading_that_raises_or_was_left_ends_alone(readings):
    def refuse(_):
        raise ValueError("this one")

    failing, left = add(readings, "a", [1] * 8, keep=refuse), add(readings, "b", [2] * 8)
    other = add(readings, "c", [3])
    assert left.cancel()
    pieces_read(readings, 2)
    assert str(failing.exception(0)) == "this one" and other.result(0)
    assert [2] * 4 not in readings._runner.pieces
    assert len(readings) == readings._admission.active == 0
