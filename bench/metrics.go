package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fetch gets a page of pgweir's HTTP listener.
func (s *system) fetch(ctx context.Context, path string, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return body, err
}

// metrics reads the named metrics without labels.
func (s *system) metrics(ctx context.Context, names ...string) ([]float64, error) {
	body, err := s.fetch(ctx, "/metrics", 10*time.Second)
	if err != nil {
		return nil, err
	}
	values := make([]float64, len(names))
	for i, name := range names {
		if values[i], err = findMetric(string(body), name); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// findMetric finds a line "name value".
func findMetric(text, name string) (float64, error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(rest, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// sumBy adds up the values of a metric for each value of one of its labels.
func sumBy(text, name, label string) map[string]float64 {
	sums := map[string]float64{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name+"{")
		labels, value, ok2 := strings.Cut(rest, "} ")
		if !ok || !ok2 {
			continue
		}
		_, of, ok := strings.Cut(","+labels, ","+label+`="`)
		key, _, _ := strings.Cut(of, `"`)
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			sums[key] += v
		}
	}
	return sums
}

// statements tells how many statements pgweir has run on each kind of server.
func (s *system) statements(ctx context.Context) (map[string]float64, error) {
	page, err := s.fetch(ctx, "/metrics", 10*time.Second)
	return sumBy(string(page), "pgweir_statements_total", "target"), err
}
