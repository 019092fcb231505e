-- An erasure that restates totals is a restatement, too. One that keeps them is none.

-- One row: a load and a date that had readings before, of which it added, changed or removed some. kWh.
CREATE OR REPLACE VIEW gold.restatements (
  load_id COMMENT 'Load that restated the date, see gold.load_history',
  restated_at COMMENT 'When the load ended, UTC',
  kind COMMENT 'load; retract, reload, rebuild, erase: a person asked for it; rollback',
  date COMMENT 'Local date of the readings',
  readings_added COMMENT 'Half hours of meterpoints that had no reading before',
  readings_changed COMMENT 'Half hours of meterpoints with another consumption or quality than before',
  readings_removed COMMENT 'Half hours of meterpoints that have no reading any more',
  meterpoint_count COMMENT 'Meterpoints concerned; null for loads of older versions',
  kwh_before COMMENT 'Energy of the date before, kWh; null for loads of older versions',
  kwh_after COMMENT 'Energy of the date since then, kWh; null for loads of older versions'
) COMMENT 'What loads changed of dates that had readings before, one row per load and date' AS
SELECT
  publications.load_id, loads.finished_at, coalesce(loads.kind, loads.status) AS kind,
  CAST(publications.partition_value AS DATE) AS date,
  publications.readings_added, publications.readings_changed, publications.readings_removed,
  publications.meterpoints, publications.kwh_before, publications.kwh_after
FROM ops.publications
JOIN ops.loads ON loads.load_id = publications.load_id
WHERE publications.table_name = 'silver.readings'
  AND publications.readings_added + publications.readings_changed + publications.readings_removed > 0;
