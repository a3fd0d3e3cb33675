package proxy_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/proxy"
)

// Without an account of its own the proxy borrows its clients' logins. One that
// no server lets in must not do harm: not at first, when nothing is known of the servers, and not later.
func TestBorrowedLogin(t *testing.T) {
	database := newDatabase(t, "")
	cfg := config.Default()
	cfg.Listen, cfg.HTTP = config.Addresses{freeAddress(t)}, ""
	for _, s := range shared(t).Servers() {
		cfg.Servers = append(cfg.Servers, config.Server{Address: s.Addr(), Weight: 1})
	}
	cfg.Auth.Method = "trust"
	cfg.Routing.MonitorInterval = 100 * time.Millisecond
	server, err := proxy.New(cfg.Complete(), testLog(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s := &service{Server: server, addr: server.Addrs()[0].String()}
	refused := func() {
		t.Helper()
		began := time.Now()
		if _, err := pgx.Connect(context.Background(), s.dsn("no_such_database")); wantCode(err) != "3D000" {
			t.Errorf("a database that does not exist: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it was refused after %v", took)
		}
	}
	refused()
	good := s.connect(t, database)
	works := func() {
		t.Helper()
		for _, sql := range []string{"select 1", "create temp table x () on commit drop"} {
			if _, err := good.Exec(context.Background(), sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	works()
	refused()
	// The monitor has to log in anew.
	for _, pg := range shared(t).Servers() {
		if _, err := pg.Value(context.Background(), "postgres", "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'pgweir'"); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the monitor has logged in anew", func() bool {
		v, err := shared(t).Primary.Value(context.Background(), "postgres", "select count(*) > 0 from pg_stat_activity where application_name = 'pgweir'")
		return err == nil && v == "t"
	})
	works()
	refused()
}
