package admin

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/pgweir/pgweir/proxy/baselines"
)

// handleBaselines serves the baselines of what was counted: their list, one of them as a file
// (that without a name is what was counted since the last one), and commands to take and to
// remove one.
func handleBaselines(mux *http.ServeMux, k *baselines.Keeper) {
	answer := func(method string, f func(name string) ([]byte, error)) {
		mux.HandleFunc(method, local(func(w http.ResponseWriter, r *http.Request) {
			body, err := f(r.FormValue("name"))
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write(body) // the client is gone
		}))
	}
	answer("GET /insights/baselines", func(string) ([]byte, error) {
		all, err := k.List()
		if err != nil {
			return nil, err
		}
		return json.Marshal(all)
	})
	answer("GET /insights/baseline", func(name string) ([]byte, error) {
		var body bytes.Buffer
		err := k.Write(&body, name)
		return body.Bytes(), err
	})
	answer("POST /insights/baseline", func(name string) ([]byte, error) { return []byte("ok\n"), k.Take(name) })
	answer("DELETE /insights/baseline", func(name string) ([]byte, error) { return []byte("ok\n"), k.Remove(name) })
}
