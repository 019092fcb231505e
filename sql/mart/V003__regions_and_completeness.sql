-- Marts by region, and in each mart how much was received of what was expected, and how much of it is actual.
-- Expected are the half hours of meterpoints with an agreement on the date. Dates that an older version built have nulls in
-- the new columns of the marts that it knew, until `lake rebuild`.

ALTER TABLE mart.daily_meterpoint_consumption ADD COLUMNS (
  actual_readings INT COMMENT 'Readings with the quality A; null if the mart is of an older version',
  rated_readings INT COMMENT 'Readings with any quality; null if the mart is of an older version',
  min_kwh DECIMAL(9,6) COMMENT 'Least energy of a half hour of the date, kWh; null without readings, or if the mart is of an older version',
  max_kwh DECIMAL(9,6) COMMENT 'Most energy of a half hour of the date, kWh; null without readings, or if the mart is of an older version'
);

ALTER TABLE mart.half_hourly ADD COLUMNS (
  expected_readings BIGINT COMMENT 'Meterpoints with an agreement on the date; null if the row is of an older version',
  received_readings BIGINT COMMENT 'Those of them with a reading; null if the row is of an older version',
  actual_readings BIGINT COMMENT 'Readings with the quality A; null if the row is of an older version',
  rated_readings BIGINT COMMENT 'Readings with any quality; null if the row is of an older version'
);

-- Since this version a product has a row for each half hour of a date on which it has an agreement, read or not.
ALTER TABLE mart.half_hourly_by_product ADD COLUMNS (
  expected_readings BIGINT COMMENT 'Meterpoints with an agreement of the product on the date; null if the row is of an older version',
  actual_readings BIGINT COMMENT 'Readings with the quality A; null if the row is of an older version',
  rated_readings BIGINT COMMENT 'Readings with any quality; null if the row is of an older version'
);

ALTER TABLE mart.daily_by_product ADD COLUMNS (
  expected_readings BIGINT COMMENT 'Half hours of the date, of all meterpoints with an agreement of the product; null if the row is of an older version',
  received_readings BIGINT COMMENT 'Those of them with a reading; null if the row is of an older version',
  actual_readings BIGINT COMMENT 'Readings with the quality A; null if the row is of an older version',
  rated_readings BIGINT COMMENT 'Readings with any quality; null if the row is of an older version'
);

-- One row: a region's half hour, in which a meterpoint of it was read or has an agreement.
CREATE TABLE IF NOT EXISTS mart.half_hourly_by_region (
  region STRING COMMENT 'Region of the meterpoints on the date, null: no snapshot names one',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading, with an agreement or not',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by them, kWh; null if none was read',
  expected_readings BIGINT COMMENT 'Meterpoints with an agreement on the date',
  received_readings BIGINT COMMENT 'Those of them with a reading',
  actual_readings BIGINT COMMENT 'Readings with the quality A',
  rated_readings BIGINT COMMENT 'Readings with any quality',
  date DATE COMMENT 'Local date of interval_start',
  year INT COMMENT 'Year of date'
) USING parquet PARTITIONED BY (year)
COMMENT 'Consumption by region, one row per region and half hour'
LOCATION '${warehouse}/mart/half_hourly_by_region';

-- One row: a local date, a product and a region, of which a meterpoint was read or has an agreement.
CREATE TABLE IF NOT EXISTS mart.daily_by_product_and_region (
  product_display_name STRING COMMENT 'Name of the product, null: without an agreement on the date',
  region STRING COMMENT 'Region of the meterpoints on the date, null: no snapshot names one',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by them, kWh; null if none was read',
  expected_readings BIGINT COMMENT 'Half hours of the date, of all meterpoints with an agreement; 0 without a product',
  received_readings BIGINT COMMENT 'Those of them with a reading',
  actual_readings BIGINT COMMENT 'Readings with the quality A; null on dates that an older version built',
  rated_readings BIGINT COMMENT 'Readings with any quality; null on dates that an older version built',
  date DATE COMMENT 'Local date',
  year INT COMMENT 'Year of date'
) USING parquet PARTITIONED BY (year)
COMMENT 'Consumption by product and region, one row per product name, region and date'
LOCATION '${warehouse}/mart/daily_by_product_and_region';
