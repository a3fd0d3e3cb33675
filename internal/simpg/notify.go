package simpg

import (
	"slices"

	"github.com/jackc/pgx/v5/pgproto3"
)

// notification is what NOTIFY sends.
type notification struct{ database, channel, payload string }

func (se *session) listen(channel string) string {
	se.refuseRecovery("LISTEN")
	se.tx.listens = append(se.tx.listens, func() { se.heard[channel] = true })
	return "LISTEN"
}

func (se *session) unlisten(channel string) string {
	se.tx.listens = append(se.tx.listens, func() {
		if channel == "" {
			clear(se.heard)
		}
		delete(se.heard, channel)
	})
	return "UNLISTEN"
}

func (se *session) notifies(channel, payload string) {
	if channel == "" {
		raise("22023", "channel name cannot be empty")
	}
	se.refuseRecovery("NOTIFY")
	n := notification{se.database, channel, payload}
	if !slices.Contains(se.tx.notifies, n) {
		se.tx.notifies = append(se.tx.notifies, n)
	}
}

// notify gives notifications to those who listen; they are told between transactions.
func (s *Server) notify(from *session, list []notification) {
	for _, n := range list {
		for _, se := range s.sessions {
			if se.database == n.database && se.heard[n.channel] {
				se.pending = append(se.pending, pgproto3.NotificationResponse{PID: from.pid, Channel: n.channel, Payload: n.payload})
				if se != from && !se.busy {
					se.io.interrupt()
				}
			}
		}
	}
}

// deliver tells the client of notifications.
func (se *session) deliver() {
	for i := range se.pending {
		se.io.send(&se.pending[i])
		se.io.urgent = true
	}
	se.pending = nil
}
