package admin

import (
	"net"
	"net/http"
	"net/netip"
)

// Command is a header that commands must have: a browser that is led here by a page of
// another site does not send one without asking, and is not answered.
const Command = "Pgweir-Command"

// local serves commands of this host only.
func local(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !fromHere(r) {
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

// fromHere reports whether a request was sent on this host: by loopback, or from the address
// it was sent to.
func fromHere(r *http.Request) bool {
	from, ok := addressOf(r.RemoteAddr)
	if !ok || from.IsLoopback() {
		return ok
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil {
		return false
	}
	to, ok := addressOf(local.String())
	return ok && to == from
}

func addressOf(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddrPort(s)
	return a.Addr().Unmap(), err == nil
}
