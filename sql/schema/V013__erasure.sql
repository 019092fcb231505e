-- Who was erased: keyed hashes alone. The keys are in LAKE_STATE, so that nobody who has the tables can try out ids.

-- One row: what is kept of an id that was erased, by erasure. Rows of it in later deliveries are not kept.
CREATE TABLE IF NOT EXISTS ops.erased (
  erasure STRING COMMENT 'Erasure, by the time at which it was asked for (UTC) and a random suffix',
  subject STRING COMMENT 'meterpoint; account; tenancy: a meterpoint on the dates on which an erased account had it',
  key_id STRING COMMENT 'Key that the hashes were made with, in erasures/erased.json of LAKE_STATE',
  digest STRING COMMENT 'Keyed hash of the id',
  name_digest STRING COMMENT 'Keyed hash of the id in small letters, by which it is found in names of files; empty of a tenancy',
  length INT COMMENT 'Characters of the id',
  is_word BOOLEAN COMMENT 'Whether the id is of letters and digits alone',
  first_date DATE COMMENT 'First local date of a tenancy, null for others',
  last_date DATE COMMENT 'Last local date of a tenancy, null for others',
  erased_at TIMESTAMP COMMENT 'When it was asked for, UTC',
  erased_by STRING COMMENT 'Who asked for it',
  reason STRING COMMENT 'Why, in the words of whoever asked',
  removed MAP<STRING, BIGINT> COMMENT 'Rows of the erasure that went, by table; of files and names, how many',
  load_id STRING COMMENT 'Load that carried it out, see ops.loads',
  load_date DATE COMMENT 'UTC date of the load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'What is kept of ids that were erased, one row per erasure and id'
LOCATION '${warehouse}/ops/erased';

ALTER TABLE ops.loads ALTER COLUMN kind COMMENT 'load; retract, reload, rebuild, erase: a person asked for it; rollback; dismiss: of quarantine entries; upgrade: what an older version lacks; expire: what is kept no longer';
ALTER TABLE ops.loads ALTER COLUMN readings_rejected COMMENT 'Rows of input files in quarantine.readings, and rows of erased ids, which are in no table';
ALTER TABLE ops.load_files ALTER COLUMN rows_rejected COMMENT 'Of these, rows in quarantine.readings, and rows of erased ids, which are in no table';
