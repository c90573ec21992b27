-- name: ledger_and_facts
-- description: The facts of a run are exactly those of the examples in its ledger.
-- grain: run_id
SELECT * FROM integrity WHERE NOT ok
