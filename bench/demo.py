"""`make demo`: index the sample handbook, ask it a question over HTTP, print the answer with its pages.

Runs its own service on a free port and a temporary folder, without a model, so that it needs and leaves nothing.
"""

from __future__ import annotations

import subprocess
import sys

from bench.service import ask, offline_environment, service, temporary_folder, wait_for_workers
from rag.text.page_names import page_name
from settings import ROOT

SAMPLE = ROOT / "samples" / "handbook.pdf"
QUESTION = "How long does a full charge take?"


def main() -> int:
    with temporary_folder() as folder:
        environment = offline_environment(folder / "data")
        print("starting the service ...")
        with service("all", folder / "service.log", environment) as client:
            wait_for_workers(client, 1)
            print(f"$ python index.py {SAMPLE.relative_to(ROOT)}")
            command = [sys.executable, "index.py", str(SAMPLE)]
            if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
                return 1
            print(f"$ curl -X POST {client.base_url}/chat --url-query 'query={QUESTION}'\n")
            result = ask(client, QUESTION)
    print(result["result"] if result["status"] == "completed" else result["error"])
    print("\nsources:")
    for source in result.get("sources", []):
        quote = " ".join(source["quote"].split())
        print(f"  [{source['n']}] {source['name']}, {page_name(source['page'], source['page_label'])}")
        print(f"      {quote}")
    return 0 if result.get("sources") else 1


if __name__ == "__main__":
    sys.exit(main())
