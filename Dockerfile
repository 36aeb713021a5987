# The basicsr command in a container, for a CPU or for NVIDIA's GPUs; docs/deploy.md has the commands.
#
#   docker build --target cpu -t compacter:cpu .
#   docker build --target cuda -t compacter:cuda .
#
# TORCH_INDEX: the index of packages that PyTorch's installation page names for CPU builds. Without
# it the image for a CPU holds the build for CUDA, which works and is several times as large.
# EXTRAS: optional parts of the package.

ARG PYTHON=3.12

# What runs: the kernels are compiled for the machine that the container runs on, so g++ stays.
FROM python:${PYTHON}-slim AS runtime
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
# Any user may be chosen by `docker run --user`: home, of the compiled kernels, and /work are open.
RUN useradd --uid 1000 --no-create-home compacter \
    && install --directory --mode 1777 /home/compacter /work
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/compacter \
    USER=compacter \
    PYTHONUNBUFFERED=1
WORKDIR /work
VOLUME ["/work", "/home/compacter"]
EXPOSE 7860
USER compacter
ENTRYPOINT ["basicsr"]
CMD ["-h"]

FROM python:${PYTHON}-slim AS builder
ENV PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv && pip install --upgrade pip setuptools wheel

FROM builder AS builder-cpu
ARG TORCH_INDEX=
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
ARG EXTRAS=table,demo,video,export
COPY . /source
RUN pip install --no-build-isolation "/source[$EXTRAS]"

FROM builder AS builder-cuda
RUN pip install torch torchvision
ARG EXTRAS=table,demo,video,export
COPY . /source
RUN pip install --no-build-isolation "/source[$EXTRAS]"

FROM runtime AS cuda
COPY --from=builder-cuda /opt/venv /opt/venv

# The last stage is what `docker build` makes without a target.
FROM runtime AS cpu
COPY --from=builder-cpu /opt/venv /opt/venv
