-- Small marts by year: a half hour has a few rows, so a year of them is one file, and ten years are ten.
-- The tables of V001 that these replace are dropped when no view reads them any more (gold/V014).

-- One row: a half hour in which at least one meterpoint was read, with agreement or not.
CREATE TABLE IF NOT EXISTS mart.half_hourly (
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by all of them, kWh',
  date DATE COMMENT 'Local date of interval_start',
  year INT COMMENT 'Year of date'
) USING parquet PARTITIONED BY (year)
COMMENT 'Consumption of all meterpoints, one row per half hour'
LOCATION '${warehouse}/mart/half_hourly';

-- One row: a product's half hour in which at least one of its meterpoints was read.
CREATE TABLE IF NOT EXISTS mart.half_hourly_by_product (
  product_display_name STRING COMMENT 'Name of the product; several products may share one',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by them, kWh',
  average_kwh DECIMAL(18,6) COMMENT 'consumption_kwh by meterpoint_count, kWh, rounded half up',
  date DATE COMMENT 'Local date of interval_start',
  year INT COMMENT 'Year of date'
) USING parquet PARTITIONED BY (year)
COMMENT 'Consumption by product, one row per product name and half hour'
LOCATION '${warehouse}/mart/half_hourly_by_product';

-- One row: a product's local date on which at least one of its meterpoints was read.
CREATE TABLE IF NOT EXISTS mart.daily_by_product (
  product_display_name STRING COMMENT 'Name of the product; several products may share one',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by them, kWh',
  date DATE COMMENT 'Local date',
  year INT COMMENT 'Year of date'
) USING parquet PARTITIONED BY (year)
COMMENT 'Consumption by product, one row per product name and date'
LOCATION '${warehouse}/mart/daily_by_product';

-- One row: a local date on which at least one meterpoint was read.
CREATE TABLE IF NOT EXISTS mart.daily_completeness (
  meterpoint_count BIGINT COMMENT 'Meterpoints with an agreement or a reading on the date',
  complete_meterpoints BIGINT COMMENT 'Those of them with a reading of every half hour',
  silent_meterpoints BIGINT COMMENT 'Those of them without any reading',
  expected_readings BIGINT COMMENT 'Half hours of the date (48, in March 46, in October 50) times meterpoint_count',
  received_readings BIGINT COMMENT 'Half hours with a reading, of all of them',
  date DATE COMMENT 'Local date',
  year INT COMMENT 'Year of date'
) USING parquet PARTITIONED BY (year)
COMMENT 'How complete the readings of a date are, one row per date'
LOCATION '${warehouse}/mart/daily_completeness';

-- Since this version a meterpoint with an agreement has a row on each date on which anybody was read, read or not.
ALTER TABLE mart.daily_meterpoint_consumption ADD COLUMNS (
  expected_readings INT COMMENT 'Half hours of the date: 48, in March 46, in October 50; null if the mart is of an older version',
  first_missing TIMESTAMP COMMENT 'Start of the first half hour without a reading, local wall-clock time (Europe/London); null if none is missing',
  last_missing TIMESTAMP COMMENT 'Start of the last half hour without a reading, local wall-clock time (Europe/London); null if none is missing'
);
