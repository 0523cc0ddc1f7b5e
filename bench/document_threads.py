"""A worker that indexes several documents at once, in threads: `python -m bench.document_threads COUNT`.

It indexes what the list of uploads has waiting and ends. The queue is not asked, so that only indexing is measured.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from queues.jobs.indexing import index_upload
from queues.wiring import Services, open_services
from schemas import Upload, UploadTask
from settings import load_settings


def main() -> None:
    use = open_services(load_settings(), owner=True)
    try:
        with ThreadPoolExecutor(int(sys.argv[1])) as pool:
            list(pool.map(lambda upload: _index(upload, use), list(use.uploads.all())))
    finally:
        use.close()


def _index(upload: Upload, use: Services) -> None:
    task = UploadTask(upload_id=upload.upload_id, user_id=upload.user_id)
    index_upload(task, use, lambda _: None, job_id=upload.job_id)


if __name__ == "__main__":
    main()
