# The app on the bundled runs: docker build -t dmpo-explore . && docker run -p 8501:8501 dmpo-explore
# CPU by default. CUDA: --build-arg BASE=nvidia/cuda:12.6.3-runtime-ubuntu24.04 --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
ARG BASE=ubuntu:24.04
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 1000 -g 1000 /home/explorer /home/explorer/runs /home/explorer/cache

WORKDIR /home/explorer
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv && pip install --index-url ${TORCH_INDEX} torch torchvision

COPY pyproject.toml README.md LICENSE NOTICE source/
COPY dmpo_explore source/dmpo_explore
COPY app source/app
RUN pip install "./source[app,onnx]" && rm -rf source

USER 1000
ENV HOME=/home/explorer DMPO_EXPLORE_RUNS=/home/explorer/runs DMPO_EXPLORE_CACHE=/home/explorer/cache
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD python3 -c "import urllib.request; urllib.request.urlopen('http://localhost:8501/_stcore/health', timeout=3)"
CMD ["dmpo-explore", "app", "--no-browser", "--host", "0.0.0.0"]
