-- How many agreements of each product were active on a day?
SELECT product_display_name, count(*) AS agreements
FROM gold.active_agreements_on(DATE '2021-01-02')
GROUP BY product_display_name
ORDER BY agreements DESC;

-- Which agreements were active on 5 January and not yet on 1 January?
SELECT later.agreement_id, later.meterpoint_id, later.product_display_name
FROM gold.active_agreements_on(DATE '2021-01-05') AS later
LEFT ANTI JOIN gold.active_agreements_on(DATE '2021-01-01') AS earlier ON earlier.agreement_id = later.agreement_id;

-- Which product did a meterpoint have on a day?
SELECT agreement_id, product_display_name, is_variable
FROM gold.active_agreements_on(DATE '2021-01-02')
WHERE meterpoint_id = '0432df65f7';
