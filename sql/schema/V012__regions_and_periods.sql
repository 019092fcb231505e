-- The region of a meterpoint on each date, and the periods of the day by which consumption is added up.

-- One row: a meterpoint and dates on which it has one region. Worked out from the snapshots: a snapshot's word holds from its
-- date on, the first one also before it. A snapshot that lacks the meterpoint, or its region, changes nothing.
CREATE TABLE IF NOT EXISTS silver.meterpoint_regions (
  meterpoint_id STRING COMMENT 'Meterpoint',
  region STRING COMMENT 'Region of the grid in which it lies on these dates',
  snapshot_date DATE COMMENT 'Snapshot that was the first to say so',
  valid_from DATE COMMENT 'First local date of the region; null: since ever, no earlier snapshot named a region',
  valid_to DATE COMMENT 'Local date from which another region holds, null if none does',
  kind STRING COMMENT 'Always reference; tables are published by partition, so there is one'
) USING parquet PARTITIONED BY (kind)
COMMENT 'Region of each meterpoint by date, one row per meterpoint and span of dates'
LOCATION '${warehouse}/silver/meterpoint_regions';

-- One row: a rule of a scheme. The rules of a scheme cover each half hour of a week exactly once. Set by `lake periods set`.
CREATE TABLE IF NOT EXISTS silver.time_of_use_periods (
  scheme STRING COMMENT 'Name of the scheme, such as a tariff',
  period STRING COMMENT 'Name of the period; several rules may share one',
  time_from STRING COMMENT 'Local time at which it begins, HH:MM',
  time_to STRING COMMENT 'Local time at which it ends, HH:MM, which is no part of it; not later than time_from: on the next day',
  weekdays STRING COMMENT 'Weekdays on which it begins: Mon to Sun; a period that passes midnight goes on into the next one',
  half_hours ARRAY<INT> COMMENT 'The same as half hours of a local week, 0: Monday 00:00, 335: Sunday 23:30',
  set_at TIMESTAMP COMMENT 'When the rules were set, UTC',
  kind STRING COMMENT 'Always current; tables are published by partition, so there is one'
) USING parquet PARTITIONED BY (kind)
COMMENT 'Time-of-use periods, one row per scheme and rule'
LOCATION '${warehouse}/silver/time_of_use_periods';
