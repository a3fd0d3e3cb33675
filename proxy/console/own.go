package console

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/config"
)

// ownViews are those that PgBouncer has not.
func ownViews() []view {
	return []view{
		{"TOPOLOGY", "servers with role, status, lag and load, and why one is not used", slices.Concat(texts("cluster", "server", "role", "status"), ints("disabled"), texts("since"), ints("timeline"), texts("lsn"),
			ints("lag_bytes", "staleness_us", "load", "connections", "max_connections"), texts("because")), showTopology},
		{"ROUTES", "where statements ran, and why there", slices.Concat(texts("target", "reason", "class"), ints("statements")), showRoutes},
		{"PINS", "clients that are tied to their server connection, and why", slices.Concat(ints("id", "pid"), texts("database", "user", "application_name", "pins"), ints("seconds"), texts("server")), showPins},
		{"TRANSACTIONS", "open transactions, the oldest first", slices.Concat(ints("id", "pid"), texts("database", "user", "application_name", "state"), ints("age_us"),
			texts("server"), ints("server_pid"), texts("first_statement")), showTransactions},
		{"SETTINGS", "every key of the configuration, and whether SET and RELOAD change it", texts("key", "value", "default", "changeable"), showSettings},
		{"STATEMENTS", "what statements cost, those first that took most time", slices.Concat(texts("database", "target"), ints("calls", "errors", "rows", "bytes",
			"total_us", "p50_us", "p95_us", "waited_us"), texts("reasons", "statement", "fingerprint")), showStatements},
		{"INSIGHTS", "statements that should be others, and what to send instead", slices.Concat(texts("severity", "kind", "sure", "database", "table"), ints("times", "calls", "wasted_us"),
			texts("routes", "statement", "detail", "cost", "instead")), showInsights},
		{"TRANSACTIONS BY ROUTE", "what transactions did, by the application's request that they served", slices.Concat(texts("database", "application_name", "route"),
			ints("transactions", "statements"), texts("statements_each"), ints("total_us", "mean_us", "idle_us")), showRoutesOfTransactions},
		{"UNFILTERED", "statements without a tenant's filter", nil, showUnfiltered},
		{"HELP", "this", texts("command", "meaning"), showHelp},
	}
}

func showTopology(s *Session, t *table) {
	for _, v := range s.Service.Servers() {
		var lag, stale any
		if v.Lag >= 0 {
			lag = v.Lag
		}
		if v.Staleness >= 0 {
			stale = v.Staleness.Microseconds()
		}
		because := v.Err
		if because == "" && v.Disabled {
			because = "it is disabled at the console: ENABLE SERVER gives it reads"
		}
		t.add(v.Cluster, v.Address, v.Role, v.Status, bit(v.Disabled), at(v.Since), int64(v.Timeline), orNull(v.LSN),
			lag, stale, v.Load, int64(v.Open), int64(v.Bound), orNull(because))
	}
}

func showRoutes(s *Session, t *table) {
	for _, r := range s.Service.Routes() {
		t.add(r.Target, r.Reason, r.Class, int64(r.Statements))
	}
}

func showPins(s *Session, t *table) {
	for _, c := range s.Service.Clients() {
		if c.Pins != "" {
			t.add(int64(c.ID), int64(c.PID), c.Database, c.User, c.Application, c.Pins, int64(time.Since(c.Pinned).Seconds()), orNull(c.Server))
		}
	}
}

// showTransactions has the oldest first.
func showTransactions(s *Session, t *table) {
	clients := slices.DeleteFunc(s.Service.Clients(), func(c Client) bool { return c.Transaction.IsZero() })
	slices.SortFunc(clients, func(a, b Client) int { return a.Transaction.Compare(b.Transaction) })
	for _, c := range clients {
		t.add(int64(c.ID), int64(c.PID), c.Database, c.User, c.Application, c.State.String(), time.Since(c.Transaction).Microseconds(),
			orNull(c.Server), int64(c.ServerPID), orNull(c.First))
	}
}

func showSettings(s *Session, t *table) {
	cfg := s.Service.Config()
	for _, e := range cfg.Entries() {
		t.add(e.Path, e.Value, orNull(e.Default), yes(!e.Restart))
	}
}

func showStatements(s *Session, t *table) {
	sum, _ := s.Service.Insights()
	for i := range sum.Statements {
		r := &sum.Statements[i]
		t.add(r.Database, r.Target, int64(r.Calls), int64(r.Errors), int64(r.Rows), int64(r.Bytes),
			micros(r.Total), micros(r.P50), micros(r.P95), micros(r.Waited), orNull(strings.Join(r.Reasons, ", ")), r.Statement, r.Fingerprint)
	}
}

func showInsights(s *Session, t *table) {
	sum, _ := s.Service.Insights()
	for i := range sum.Findings {
		f := &sum.Findings[i]
		t.add(f.Severity, f.Kind, f.Sure, f.Database, orNull(f.Table), int64(f.Times), int64(f.Calls), micros(f.Wasted),
			orNull(strings.Join(f.Routes, ", ")), f.Statement, f.Detail, f.Cost, orNull(f.SQL))
	}
}

// micros are microseconds of milliseconds.
func micros(ms float64) int64 { return int64(ms * 1000) }

func showRoutesOfTransactions(s *Session, t *table) {
	for _, r := range s.Service.RoutesOfTransactions() {
		t.add(r.Database, r.Application, orNull(r.Route), int64(r.Transactions), int64(r.Statements),
			strconv.FormatFloat(float64(r.Statements)/float64(r.Transactions), 'f', 1, 64),
			r.Took.Microseconds(), r.Took.Microseconds()/int64(r.Transactions), r.Idle.Microseconds())
	}
}

func showUnfiltered(s *Session, t *table) {
	columns, rows := s.Service.Unfiltered()
	t.columns = texts(columns...)
	for _, row := range rows {
		values := make([]any, len(row))
		for i, v := range row {
			values[i] = v
		}
		t.rows = append(t.rows, values)
	}
}

func showHelp(_ *Session, t *table) {
	for _, v := range views {
		t.add("SHOW "+v.name, v.help)
	}
	for _, c := range commands {
		if c.help != "" {
			t.add(c.syntax, c.help)
		}
	}
}

// showConfig has those of PgBouncer's keys that mean something here, with their values here.
func showConfig(s *Session, t *table) {
	now, usual := s.Service.Config(), config.Default()
	for _, k := range []struct {
		name  string
		value func(*config.Config) string
		live  bool
	}{
		{"max_client_conn", func(c *config.Config) string { return strconv.Itoa(c.MaxClients) }, true},
		{"default_pool_size", func(c *config.Config) string { return strconv.Itoa(c.Pool.Size) }, true},
		{"min_pool_size", func(c *config.Config) string { return strconv.Itoa(c.Pool.MinIdle) }, true},
		{"reserve_pool_size", func(*config.Config) string { return "0" }, false},
		{"max_db_connections", func(*config.Config) string { return "0" }, false},
		{"max_user_connections", func(*config.Config) string { return "0" }, false},
		{"pool_mode", func(c *config.Config) string { return c.Pool.Mode }, true},
		{"max_prepared_statements", func(c *config.Config) string { return strconv.Itoa(c.Pool.MaxStatements) }, true},
		{"query_wait_timeout", func(c *config.Config) string { return seconds(c.Pool.AcquireTimeout) }, true},
		{"server_connect_timeout", func(c *config.Config) string { return seconds(c.Pool.ConnectTimeout) }, true},
		{"server_idle_timeout", func(c *config.Config) string { return seconds(c.Pool.IdleTimeout) }, true},
		{"server_lifetime", func(c *config.Config) string { return seconds(c.Pool.MaxLifetime) }, true},
		{"client_idle_timeout", func(c *config.Config) string { return seconds(c.Timeouts.ClientIdle) }, true},
		{"idle_transaction_timeout", func(c *config.Config) string { return seconds(c.Timeouts.IdleTransaction) }, true},
		{"query_timeout", func(c *config.Config) string { return seconds(c.Timeouts.Statement) }, true},
		{"client_login_timeout", func(c *config.Config) string { return seconds(c.Auth.Timeout) }, true},
		{"auth_type", func(c *config.Config) string { return c.Auth.Method }, true},
		{"application_name_add_host", func(c *config.Config) string { return strconv.Itoa(int(bit(c.ApplicationNameAddHost))) }, true},
		{"log_connections", func(c *config.Config) string { return strconv.Itoa(int(bit(c.Log.Connections))) }, true},
		{"so_reuseport", func(c *config.Config) string { return strconv.Itoa(int(bit(c.ReusePort))) }, false},
	} {
		t.add(k.name, k.value(&now), k.value(&usual), yes(k.live))
	}
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
