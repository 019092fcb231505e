-- How did the last loads go?
SELECT load_id, status, kind, files_loaded, readings_loaded, readings_rejected, warnings, error
FROM gold.load_history
ORDER BY started_at DESC
LIMIT 10;

-- Which loads may have changed a date?
SELECT load_id, kind, finished_at, rolled_back_by
FROM gold.load_history
WHERE DATE '2021-01-01' BETWEEN first_date AND last_date AND status IN ('published', 'rolled back')
ORDER BY started_at;

-- Where do loads spend their time?
SELECT load_id, explode(stage_seconds) AS (stage, seconds)
FROM gold.load_history
WHERE started_at >= current_timestamp() - INTERVAL 30 DAYS
ORDER BY load_id, seconds DESC;
