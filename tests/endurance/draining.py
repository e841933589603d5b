"""SIGTERM under load: whatever was accepted is answered, and what comes later is refused at once."""

import signal
import time
from collections import Counter

from tests.endurance.conftest import DIMENSIONS
from tests.endurance.traffic import Client
from tests.serving.conftest import Service

CLIENTS, ROUNDS = 16, 3
REFUSED = ("ConnectError", "ReadError", "RemoteProtocolError")
"""Of a service that listens no more, of one whose queue was never accepted from again, of a connection being closed."""


def test_sigterm_under_load_answers_what_was_accepted(team, tmp_path, say):
    deployment, _ = team
    outcomes: Counter[str] = Counter()
    for attempt in range(ROUNDS):
        service = Service(deployment, tmp_path / f"service-{attempt}.log").await_ready()
        kinds = ("whole", "streamed", "chat")
        clients = [Client(service.url, seed, DIMENSIONS, kinds, lengths=(200, 300)) for seed in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(3 + attempt)
        asked = time.time()
        service.process.send_signal(signal.SIGTERM)
        ended = service.process.wait(60)
        seconds = time.time() - asked
        for client in clients:
            client.stop()
        for client in clients:
            client.join(60)
        answers = [answer for client in clients for answer in client.answers]
        running = [answer for answer in answers if answer.began <= asked < answer.ended]
        told, later = came_of(running), came_of([answer for answer in answers if answer.began > asked])
        outcomes += told
        say(f"{len(running)} ran at SIGTERM: {dict(told)}; {seconds:.1f} s to the end; asked later: {dict(later)}")
        assert ended == 0
        assert not set(later) - {"200", "503", *REFUSED}, later
    assert set(outcomes) == {"200"}, outcomes


def came_of(answers):
    return Counter(str(answer.status) if answer.status else answer.problem.partition(":")[0] for answer in answers)
