-- A file is not withheld where a load that is in effect read the same bytes of it: after the rollback of a rebuild, for one.

CREATE OR REPLACE VIEW ops.withheld_files (
  source_file COMMENT 'File, path below the landing place',
  load_id COMMENT 'Load that took its newest version, and was rolled back'
) COMMENT 'Files of which the newest version is withheld by a rollback, one row a file: lake reload reads them again' AS
SELECT newest.source_file, newest.load_id
FROM (
  SELECT
    files.source_file, max(files.load_id) AS load_id, max_by(files.sha256, files.load_id) AS sha256,
    max_by(files.sha256, files.load_id) FILTER (WHERE rolled_back.load_id IS NULL) AS sha256_in_effect
  FROM ops.load_files AS files
  LEFT JOIN ops.rolled_back_loads AS rolled_back ON rolled_back.load_id = files.load_id
  WHERE files.status IN ('loaded', 'rejected') AND files.load_id IN (SELECT load_id FROM ops.loads WHERE status <> 'failed')
  GROUP BY files.source_file
) AS newest
JOIN ops.rolled_back_loads ON rolled_back_loads.load_id = newest.load_id
WHERE coalesce(newest.sha256 <> newest.sha256_in_effect, true);
