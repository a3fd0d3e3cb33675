package backend

import (
	"context"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/internal/setting"
	"github.com/pgweir/pgweir/internal/wire"
)

// Adopt makes b carry want, with the given custom settings defined. If the server
// refuses it, or it fails otherwise, b is closed: a statement must never run under
// settings nobody is sure of. Outside a transaction only.
func (b *Backend) Adopt(ctx context.Context, want setting.Settings, defined setting.Names) error {
	changes := b.Changes(want, defined)
	if len(changes) == 0 {
		return nil
	}
	defined = want.Custom().Union(defined)
	b.NoteMayDefine(defined)
	b.SettingsUnknown()
	// client_encoding goes first and alone: it decides how the bytes of the other values are read.
	first := slices.IndexFunc(changes, setting.Change.Recodes)
	if first >= 0 {
		if _, err := b.RoundTrip(ctx, wire.AppendQuery(nil, AnyDefault+changes[first].SQL())); err != nil {
			b.Close()
			return err
		}
		changes = slices.Delete(changes, first, first+1)
	}
	if len(changes) > 0 {
		if _, err := b.RoundTrip(ctx, wire.AppendQuery(nil, AnyDefault+joined(changes))); err != nil {
			b.Close()
			return err
		}
	}
	b.NoteSettings(want)
	b.NoteDefined(defined)
	return nil
}

// AnyDefault has what follows in the same string run whatever default_transaction_isolation is:
// a standby takes no SERIALIZABLE, and a deferrable one waits.
const AnyDefault = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; "

// Set changes settings for its user, all or none, without a note of it: Settings stays as it was.
func (b *Backend) Set(ctx context.Context, changes []setting.Change) error {
	_, err := b.RoundTrip(ctx, wire.AppendQuery(nil, joined(changes)))
	return err
}

func joined(changes []setting.Change) string {
	texts := make([]string, len(changes))
	for i, c := range changes {
		texts[i] = c.SQL()
	}
	return strings.Join(texts, "; ")
}

// Reset returns b to what a fresh connection is: DISCARD ALL. Custom settings that are
// defined stay defined.
func (b *Backend) Reset(ctx context.Context) error {
	for _, text := range []string{"SET default_transaction_isolation = 'read committed'", "DISCARD ALL"} { // see AnyDefault
		if _, err := b.RoundTrip(ctx, wire.AppendQuery(nil, text)); err != nil {
			return err
		}
	}
	b.NoteSettings(b.began)
	b.Plans = Plans{}
	b.held.Clear()
	b.notified = nil // what came before is for whom it listened
	return nil
}
