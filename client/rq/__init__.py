"""Jobs as RQ lays them out in Valkey: submit, order, watch, move and read them. The functions of jobs are in queues."""
