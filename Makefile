# "make help" lists the targets.

GO      ?= go
BIN     := bin/pgweir
FUZZTIME ?= 20s

# Vet runs on its own. Failures and skipped tests are listed again at the end.
TESTFLAGS := -race -vet=off -timeout 45m
# What is tested a second time, with the newest PostgreSQL.
NEWEST := ./internal/pgtest ./internal/demo ./pool/... ./router/catalog ./proxy/auth

GOLANGCI    := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOTESTSUM   := $(GO) run gotest.tools/gotestsum@v1.13.0 --format pkgname --format-hide-empty-pkg
PROMTOOL    := $(GO) run github.com/prometheus/prometheus/cmd/promtool@v0.316.0
SCRIPTS := $(wildcard .ci/run .ci/*.sh internal/pgtest/*.sh internal/regress/*.sh deploy/package/after-upgrade deploy/package/deb/*)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# patience FLAGS says so if the SQL parser is not compiled for them yet.
PARSER := github.com/pganalyze/pg_query_go/v5/parser
patience = @[ "$$($(GO) list $(1) -f '{{.Stale}}' $(PARSER) 2>/dev/null)" = false ] || \
	echo "== compiling PostgreSQL's parser ($(2)); only this once, it takes a few minutes"

.PHONY: build
build: deps-build ## build bin/pgweir
	$(call patience,-trimpath,C)
	$(GO) build -trimpath -buildvcs=auto -o $(BIN) ./cmd/pgweir

.PHONY: demo
demo: deps-server build ## start a primary, two replicas and pgweir, and take a tour (DEMO="--once" …)
	@$(BIN) demo $(DEMO)

.PHONY: test
test: deps build check ## everything CI does: build, check, all tests with the race detector
	$(call patience,-race,C with the race detector)
	@echo "== tests with the system's PostgreSQL"
	$(GOTESTSUM) -- $(TESTFLAGS) ./...
	@echo "== alerts and dashboard"
	$(MAKE) --no-print-directory monitoring
	@echo "== the status page in a browser"
	$(MAKE) --no-print-directory browser
	@echo "== tests with PostgreSQL 18"
	PGWEIR_PG_VERSION=18 $(GOTESTSUM) -- $(TESTFLAGS) $(NEWEST)
	PGWEIR_PG_VERSION=18 $(GOTESTSUM) -- $(TESTFLAGS) -run TestNewer ./proxy
	@echo "== the Helm chart and the compose file"
	cd deploy && $(GO) test ./...

.PHONY: check
check: tidy fmt vet lint ## go.mod, formatting, go vet, golangci-lint, shellcheck

.PHONY: quick
quick: fmt ## what needs no server, in seconds
	$(GO) test -short -vet=off ./...

.PHONY: tidy
tidy:
	$(GO) mod tidy -diff

.PHONY: fmt
fmt:
	@files=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$files" ]; then echo "gofmt -w is needed for:"; echo "$$files"; exit 1; fi

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: lint
lint: ## golangci-lint (.golangci.yml) and shellcheck
	$(GOLANGCI) run --allow-parallel-runners ./...
	shellcheck $(SCRIPTS)

.PHONY: figures
figures: ## the shape of the tree: sizes, cycles, Booleans
	@$(GO) run ./internal/arch/figures

.PHONY: fuzz
fuzz: deps-build ## run every fuzz test for FUZZTIME (20s) each
	@.ci/fuzz.sh $(FUZZTIME)

.PHONY: sim
sim: deps-build ## simulate clusters, for TIME (1m) from SEED on; with SEED alone that one
	$(GO) test -vet=off -timeout 0 ./internal/sim -run '^TestSimulation$$' -v \
		-sim.seed=$(or $(SEED),$(shell date +%s)) $(if $(TIME),-sim.time=$(TIME),$(if $(SEED),,-sim.time=1m))

# A module of its own, so that nothing of Prometheus and Grafana is built into pgweir. What it tests is outside of
# it, where go test does not see that files have changed.
.PHONY: monitoring
monitoring: ## check alerts and dashboard, on what was recorded of real faults
	cd internal/monitoring && $(GO) mod tidy -diff && $(GO) vet ./... && $(GO) test -vet=off -count=1 ./...

# A module of its own, so that nothing of the browser's protocol is among what pgweir needs. It tries bin/pgweir.
.PHONY: browser
browser: build ## try the status page in chromium (SHOTS=directory: with pictures, which takes minutes)
	@.ci/deps.sh server browser
	cd internal/browser && $(GO) mod tidy -diff && $(GO) vet ./... && \
		$(GO) test -vet=off -count=1 ./... $(if $(SHOTS),-timeout 20m -screenshots $(abspath $(SHOTS)))

.PHONY: dashboard
dashboard: ## write deploy/grafana/pgweir.json
	cd internal/monitoring && $(GO) run . > ../../deploy/grafana/pgweir.json

.PHONY: promtool
promtool: ## the same as monitoring of the alerts, by promtool itself (compiling it takes minutes)
	cd deploy/prometheus && $(PROMTOOL) check rules alerts.yaml && $(PROMTOOL) test rules alerts_test.yaml insight_test.yaml

.PHONY: bench
bench: deps-server build ## compare with PgBouncer and direct connections (BENCH="-quick" …)
	@.ci/deps.sh bench
	$(GO) run ./bench $(BENCH)

.PHONY: manifests
manifests: ## render the Helm chart into deploy/kubernetes.yaml
	cd deploy && $(GO) run ./helm

.PHONY: regress
regress: deps-server ## PostgreSQL's own test suite, directly and through pgweir in both pool modes (REGRESS="-modes session" …)
	@.ci/deps.sh regress
	@suite=$$(internal/regress/install.sh) && $(GO) run ./internal/regress -suite "$$suite" $(REGRESS)

.PHONY: release
release: deps-build ## build the archives of a release into dist/ (of a clean work tree)
	@.ci/deps.sh release
	@.ci/release.sh

.PHONY: package
package: deps-build ## make a .deb and an .rpm in dist/, for this machine
	@.ci/package.sh $(VERSION)

.PHONY: test-package
test-package: deps-build ## take an operator's path with both packages, in a Debian that boots (root)
	@.ci/deps.sh package
	@.ci/test-package.sh

.PHONY: deps
deps: ## install what building and testing need and is missing (apt; sudo if not root)
	@.ci/deps.sh build server test

.PHONY: deps-build deps-server
deps-build:
	@.ci/deps.sh build
deps-server:
	@.ci/deps.sh build server

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist bench/profiles
	$(GO) clean -testcache
