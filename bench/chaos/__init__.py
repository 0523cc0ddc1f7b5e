"""`make chaos`: everything is killed, stopped, slowed and filled up at random, and what is lost is counted."""
