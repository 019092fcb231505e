-- Which meterpoints were silent on a day?
SELECT meterpoint_id, agreement_id, product_display_name
FROM gold.meterpoint_day_completeness
WHERE date = DATE '2021-01-02' AND received_readings = 0;

-- Which meterpoints lack most half hours in a month?
SELECT meterpoint_id, sum(missing_readings) AS missing, count_if(received_readings = 0) AS silent_days
FROM gold.meterpoint_day_completeness
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31' AND missing_readings > 0
GROUP BY meterpoint_id
ORDER BY missing DESC
LIMIT 20;

-- What is missing of one meterpoint?
SELECT date, expected_readings, received_readings, first_missing, last_missing
FROM gold.meterpoint_day_completeness
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31' AND meterpoint_id = '0432df65f7'
ORDER BY date;
