# The studio in a container. For a CPU:
#   docker build -t fifo-diffusion .
#   mkdir -p runs
#   docker run --hostname localhost -p 127.0.0.1:8800:8800 -e FIFO_DIFFUSION_TOKEN=a-long-random-word -v "$PWD/runs:/runs" fifo-diffusion
# For NVIDIA GPUs (PyTorch's wheels bring CUDA; the machine needs the NVIDIA container toolkit):
#   docker build --build-arg TORCH_INDEX= -t fifo-diffusion .
#   docker run --gpus all ... fifo-diffusion
# BASE: any image with Python 3.11 or newer and pip.
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python3 -m pip install --no-cache-dir -c constraints.txt \
        ${TORCH_INDEX:+--index-url ${TORCH_INDEX} --extra-index-url https://pypi.org/simple} torch \
    && python3 -m pip install --no-cache-dir -c constraints.txt '.[studio,lora]' \
    && useradd --create-home fifo && install -d -o fifo /runs
USER fifo
EXPOSE 8800
VOLUME /runs
CMD ["fifo-diffusion", "studio", "--runs", "/runs", "--listen", "0.0.0.0"]
