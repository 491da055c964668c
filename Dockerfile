# The dashboard, with its embedded broker, in one container:
#
#   docker build -t ackscope .
#   docker run --rm --init -p 127.0.0.1:8501:8501 ackscope
#
# and open http://127.0.0.1:8501. Runs are kept only with a volume: add  -v ackscope-runs:/home/ackscope/.local/share
FROM python:3.13-slim

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

RUN useradd --create-home --uid 10001 ackscope \
    && install -d -o ackscope -g ackscope /home/ackscope/.local /home/ackscope/.local/share
WORKDIR /app

# The project is installed by the last line of requirements.txt, so its sources have to be there first.
COPY pyproject.toml requirements.txt README.md LICENSE ./
COPY eventbus ./eventbus
RUN pip install -r requirements.txt
COPY dashboard ./dashboard
COPY examples ./examples

USER ackscope
EXPOSE 8501

HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]

# dashboard/.streamlit/config.toml listens on 127.0.0.1 only. In a container that is the container's own loopback,
# which no published port reaches; so listen on all of its addresses, and let `-p 127.0.0.1:8501:8501` keep the
# page to this machine: it has no login, so publish it more widely only behind something that has one.
CMD ["streamlit", "run", "dashboard", "--server.address=0.0.0.0", "--server.port=8501", "--server.headless=true"]
