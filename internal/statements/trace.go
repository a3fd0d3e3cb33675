package statements

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// trace reads what requests sent: each is a session of its own.
func (r *reader) trace(data []byte) error {
	line := 0
	for one := range bytes.Lines(data) {
		line++
		if len(bytes.TrimSpace(one)) == 0 {
			continue
		}
		var request struct {
			ID     int      `json:"req"`
			Method string   `json:"method"`
			Route  string   `json:"route"`
			Events []string `json:"events"`
		}
		if err := json.Unmarshal(one, &request); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		before := len(r.found)
		for _, text := range request.Events {
			r.add(Statement{Text: text, Session: fmt.Sprint(request.ID), Route: request.Method + " " + request.Route}, line)
		}
		for i := before; i < len(r.found); i++ {
			r.found[i].Line = line // its own line breaks are escaped
		}
	}
	return nil
}
