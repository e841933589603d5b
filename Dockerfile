# Two images for compose.yaml. Versions stand once: in conda.yaml, and the server's database driver in pyproject.toml;
# requirements.lock has the hashes of all that is installed, and the base image is held by its digest.
ARG PYTHON=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${PYTHON} AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 1000 trusttrace
WORKDIR /trusttrace
COPY conda.yaml pyproject.toml requirements.lock ./

FROM base AS tracking
RUN sed -n '/^pip==/,/[^\\]$/p' requirements.lock > pip.txt && pip install -r pip.txt \
 && sed -n 's/^      - \(mlflow==.*\)/\1/p' conda.yaml > requirements.txt \
 && pip install -c requirements.lock -r requirements.txt --group server
RUN install -d -o trusttrace -g trusttrace /artifacts
USER trusttrace

FROM base AS service
# For PyTorch without CUDA: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu in .env
ARG PIP_EXTRA_INDEX_URL=
COPY .ci/install .ci/install
RUN .ci/install
# Nothing can be compiled in an image that is read only; some packages carry a file for a later Python.
RUN python -m compileall -q -j 0 /usr/local/lib/python3.11/site-packages || true
COPY MLproject README.md LICENSE ./
COPY registry registry
COPY serving serving
COPY pipelines pipelines
# A checkout may be its owner's alone (umask 077).
RUN chmod -R a+rX . && install -d -o trusttrace -g trusttrace /cache && chown trusttrace /trusttrace
# The image has no .git: experiments that run in it take their commit from here, and MLflow looks for no git.
ARG COMMIT=
ENV TRUSTTRACE_COMMIT=${COMMIT} GIT_PYTHON_REFRESH=quiet
USER trusttrace
