-- What did a report of a month say at a moment? The moment is UTC.
SELECT product_display_name, sum(consumption_kwh) AS consumption_kwh
FROM gold.daily_product_consumption_as_of(TIMESTAMP '2099-01-01 09:00:00')
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY product_display_name
ORDER BY consumption_kwh DESC;
