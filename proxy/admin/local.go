package admin

import (
	"net"
	"net/http"
)

// Command is a header that commands must have: a browser that is led here by a page of
// another site does not send one without asking, and is not answered.
const Command = "Pgweir-Command"

// local serves commands of this host only.
func local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			http.Error(w, "commands are taken from the host itself only", http.StatusForbidden)
			return
		}
		if r.Header.Get(Command) == "" {
			http.Error(w, "a command needs the header "+Command, http.StatusForbidden)
			return
		}
		next(w, r)
	}
}
