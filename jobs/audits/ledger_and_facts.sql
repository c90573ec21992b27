-- name: ledger_and_facts
-- description: Runs whose facts are not exactly those of the examples in the ledger.
-- grain: run_id
SELECT * FROM integrity WHERE NOT ok
