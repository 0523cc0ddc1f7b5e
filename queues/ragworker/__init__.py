"""RagWorker: takes many jobs at once from RQ's queues and ends each exactly once. What a job does is in queues/jobs."""
