// Command monitoring writes the dashboard for Grafana, deploy/grafana/pgweir.json, to standard output; make
// dashboard has it do so. Its tests hold that file to what this writes, every expression of dashboard and alerts to
// docs/metrics.md, and the alerts to what was recorded of real faults.
//
// It is a module of its own: what Prometheus and Grafana need to be built is no business of the program's.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	text, err := dashboardJSON()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = os.Stdout.Write(text)
}

// dashboardJSON is the dashboard's file.
func dashboardJSON() ([]byte, error) {
	board, err := newDashboard().Build()
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	text, err := json.MarshalIndent(board, "", "  ")
	return append(text, '\n'), err
}
