"""How well personal details are found, on templates that somebody else wrote for measuring it."""

import csv
import io
import re

import numpy as np

from pipelines.behaviours.pii import personal_details
from pipelines.statements.pins import PRESIDIO
from registry.cache import fetch, read_member

SLOT = re.compile(r"\{\{(\w+)\}\}")


def test_details_are_found_in_presidios_templates_and_nowhere_else():
    archive = fetch(PRESIDIO)
    templates = [line for line in read_member(archive, "raw_data/templates.txt").decode().splitlines() if line.strip()]
    table = read_member(archive, "raw_data/FakeNameGenerator.com_3000.csv").decode("utf-8-sig")
    people = list(csv.DictReader(io.StringIO(table)))
    rng = np.random.default_rng(0)
    found: dict[bool, list[bool]] = {True: [], False: []}
    for template in templates:
        person = people[int(rng.integers(len(people)))]
        details = {
            "phone_number": person["TelephoneNumber"],
            "email": person["EmailAddress"],
            "ip_address": "192.168.12.7",
            "ssn": "078-05-1120",
            "credit_card_number": "4111 1111 1111 1111",
            "iban": "GB29NWBK60161331926819",
        }
        text = SLOT.sub(lambda slot: details.get(slot[1], person["GivenName"]), template)  # noqa: B023
        found[bool(details.keys() & SLOT.findall(template))].append(bool(personal_details(text)))
    assert (sum(found[True]), len(found[True])) == (38, 41)
    assert (sum(found[False]), len(found[False])) == (0, 169)
