"""Jobs as RQ lays them out in Valkey: submit, order, watch, move and read them. What a job does is in queues."""
