"""Hub of published data: benchmarks from Hugging Face and the authors' repositories, downloaded once and verified.

The rows are kept as Parquet under ``$TRUSTTRACE_CACHE/hub`` with their SHA-256, which is checked each time they are
read; once there, no network is needed or asked.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2

from pipelines.statements.hub_benchmarks import HUB_BENCHMARKS, HubBenchmark, RawRow
from pipelines.statements.rows import StatementRows, rows_of
from registry.cache import cache_root, writable
from registry.counts import counted
from registry.dimensions import DIMENSIONS, Dimension
from registry.errors import CorruptFile, InvalidInput, Unavailable

INSTALL = "pip install 'datasets==5.2.0'"
ANSWER_SECONDS = 5.0
"""How long a host may take to say anything, before it counts as out of reach."""


def is_hub_source(source: str) -> bool:
    """``hub``, ``hub@paper``, or the name of one benchmark."""
    return source in ("hub", "hub@paper", *HUB_BENCHMARKS)


def hub_rows(source: str, dimension: Dimension, seed: int) -> StatementRows:
    """The rows of the benchmark that ``source`` names, or of the dimension's own.

    Raises ``InvalidInput`` when the benchmark stands for another dimension, ``Unavailable`` when it is not in the cache
    and cannot be had, and ``CorruptFile`` when it is not what was pinned.
    """
    name = benchmark_name(source, dimension)
    benchmark = HUB_BENCHMARKS[name]
    rows = benchmark.statements(raw_rows(benchmark), seed)
    return rows_of(rows, f"hub:{name}@{benchmark.revision[:7]}", benchmark.card, conflicts="drop")


def benchmark_name(source: str, dimension: Dimension) -> str:
    """The benchmark that ``source`` names, or the dimension's own. Raises ``InvalidInput`` for one of another."""
    for name, benchmark in HUB_BENCHMARKS.items():
        fits = name == source if source in HUB_BENCHMARKS else name.endswith("@paper") == source.endswith("@paper")
        if fits and benchmark.card.dimension == dimension.name:
            return name
    if source in HUB_BENCHMARKS:
        own = HUB_BENCHMARKS[source].card.dimension
        raise InvalidInput(
            f"{source} stands for {own}, not {dimension.name}; give sources by dimension: "
            f"{own}={source},{dimension.name}=packaged"
        )
    raise InvalidInput(f"{source} has no benchmark for {dimension.name}; give a file: {dimension.name}=./mine.csv")


def raw_rows(benchmark: HubBenchmark) -> list[RawRow]:
    """The benchmark's rows at its pinned revision, from the cache or else downloaded into it."""
    import pyarrow.parquet

    path = cache_path(benchmark)
    checksum = path.with_suffix(".sha256")
    if not path.is_file():
        _download(benchmark, path, checksum)
    if not checksum.is_file() or _sha256(path) != checksum.read_text().strip():
        raise CorruptFile(f"{path} is not what was downloaded; delete it and run again")
    rows: list[RawRow] = pyarrow.parquet.read_table(path).to_pylist()
    if benchmark.n_rows not in (None, len(rows)):
        raise CorruptFile(
            f"{benchmark.card.name} at {benchmark.revision[:7]} has {counted(len(rows), 'row')} where "
            f"{benchmark.n_rows} were pinned; delete {path} and run again"
        )
    return rows


def cache_path(benchmark: HubBenchmark) -> Path:
    """Where the rows are kept; the name holds all that was pinned."""
    pinned = hashlib.sha256(repr(benchmark.parts).encode()).hexdigest()
    return cache_root() / "hub" / f"{benchmark.card.name}-{benchmark.revision[:12]}-{pinned[:8]}.parquet"


def _download(benchmark: HubBenchmark, path: Path, checksum: Path) -> None:
    address = benchmark.parts[0].address
    packaged = "-P data=packaged, or " if benchmark.card.dimension in DIMENSIONS else "-P data="
    alternative = f"or give {packaged}a directory with {benchmark.card.dimension}.csv"
    if not reachable(address):
        raise Unavailable(
            f"{benchmark.card.name} is not in the cache and {httpx2.URL(address).host} does not answer; go online "
            f"once, {alternative}"
        )
    datasets = _datasets_library(alternative)
    writable(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        table = Path(scratch) / "rows.parquet"
        try:
            _fetch_parts(datasets, benchmark, Path(scratch)).to_parquet(str(table))
        except (datasets.exceptions.DatasetsError, OSError, ValueError, httpx2.HTTPError) as error:
            raise Unavailable(
                f"{benchmark.card.name} could not be fetched from {address} ({' '.join(str(error).split())[:300]}); if "
                f"it asks for consent, give it on that page and set HF_TOKEN, {alternative}"
            ) from error
        checksum.write_text(_sha256(table) + "\n")
        os.replace(table, path)


def _fetch_parts(datasets: ModuleType, benchmark: HubBenchmark, scratch: Path) -> Any:
    """The parts under each other, as one ``datasets.Dataset`` with the column ``part``."""
    tables = []
    for number, part in enumerate(benchmark.parts):
        table = datasets.load_dataset(
            part.path,
            part.config,
            split=part.split,
            revision=part.revision,
            data_files=part.url,
            cache_dir=str(scratch),
            # Otherwise the text "NA" would be read as no text at all.
            **({"keep_default_na": False} if part.path == "csv" else {}),
        )
        tables.append(table.add_column("part", [number] * len(table)))
    return datasets.concatenate_datasets(tables)


def _datasets_library(alternative: str) -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise Unavailable(f"data from the hub needs the datasets library: {INSTALL}; {alternative}") from error
    library: ModuleType = datasets
    return library


def reachable(address: str) -> bool:
    """Whether the host of ``address`` answers at all, in seconds rather than after minutes of retries."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        httpx2.head(address, timeout=ANSWER_SECONDS)
    except httpx2.HTTPError:
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
