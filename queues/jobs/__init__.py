"""What a job does with its worker's services: answer, index, deliver, check. Not how jobs are run."""
