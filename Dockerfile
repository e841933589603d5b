# Two images for compose.yaml. Versions stand once: in conda.yaml, and the server's database driver in pyproject.toml.
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 1000 trusttrace
WORKDIR /trusttrace
COPY conda.yaml pyproject.toml ./

FROM base AS tracking
RUN sed -n 's/^      - \(mlflow==.*\)/\1/p' conda.yaml > requirements.txt \
 && sed -n '/^server = \[/,/^\]/s/^ *"\(.*\)",$/\1/p' pyproject.toml >> requirements.txt \
 && pip install -r requirements.txt
RUN install -d -o trusttrace -g trusttrace /artifacts
USER trusttrace

FROM base AS service
# For PyTorch without CUDA: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG PIP_EXTRA_INDEX_URL=
RUN sed -n 's/^      - //p' conda.yaml > requirements.txt && pip install -r requirements.txt
COPY MLproject README.md LICENSE ./
COPY registry registry
COPY serving serving
COPY pipelines pipelines
RUN install -d -o trusttrace -g trusttrace /cache && chown trusttrace /trusttrace
USER trusttrace
