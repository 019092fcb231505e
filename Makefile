.DEFAULT_GOAL := help
.PHONY: help up down clean ps logs

COMPOSE = docker compose --profile jobs

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Build and start the stack; returns when every service is healthy
	@docker/up

down: ## Stop the stack and keep its data
	@$(COMPOSE) down --remove-orphans

clean: ## Stop the stack and delete its data (asks; FORCE=1 does not)
	@FORCE=$(FORCE) docker/clean

ps: ## Show the services and their health
	@docker compose ps --all

logs: ## Follow the logs of the stack (S=metastore: of one service)
	@docker compose logs --follow --tail 100 $(S)
