-- How did one meterpoint's days run?
SELECT date, consumption_kwh, max_kwh, received_readings, expected_readings
FROM gold.meterpoint_daily
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31' AND meterpoint_id = '0432df65f7'
ORDER BY date;

-- Which meterpoints use most on a day?
SELECT meterpoint_id, region, product_display_name, consumption_kwh
FROM gold.meterpoint_daily
WHERE date = DATE '2021-01-01'
ORDER BY consumption_kwh DESC
LIMIT 20;

-- Which meterpoints draw hardest, and when? The mean of a half hour in kW is twice its kWh.
SELECT meterpoint_id, max_by(date, max_kwh) AS date, 2 * max(max_kwh) AS peak_kw
FROM gold.meterpoint_daily
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY meterpoint_id
ORDER BY peak_kw DESC
LIMIT 20;
