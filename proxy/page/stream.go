package page

import (
	"encoding/json"
	"net/http"
	"time"
)

const (
	// maxListeners is how many may look at once.
	maxListeners = 32
	// behind is how many messages one may be behind before its stream ends.
	behind = 4
	// writeTimeout is how long a message may take to be written.
	writeTimeout = 10 * time.Second
)

// listener is somebody who looks. Its channel is closed when there is nothing to come.
type listener struct{ messages chan []byte }

// message is an event of a stream. text is one line.
func message(event string, text []byte) []byte {
	return append(append([]byte("event: "+event+"\ndata: "), text...), "\n\n"...)
}

// enter lets somebody look, who is told of the last minutes first; nil if too many do, or the page is closed.
func (p *Page) enter() *listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listeners == nil || len(p.listeners) >= maxListeners {
		return nil
	}
	text, err := json.Marshal(p.history.points())
	if err != nil {
		return nil // points are numbers
	}
	l := &listener{messages: make(chan []byte, behind)}
	l.messages <- message("history", text)
	p.listeners[l] = struct{}{}
	return l
}

func (p *Page) leave(l *listener) {
	p.mu.Lock()
	delete(p.listeners, l)
	p.mu.Unlock()
}

// tell tells everybody who looks, and drops those who do not keep up: they come again.
func (p *Page) tell(m []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.listeners {
		select {
		case l.messages <- m:
		default:
			delete(p.listeners, l)
			close(l.messages)
		}
	}
}

// stream serves one who looks. Each second has a message, so that either side finds out when the other is gone.
func (p *Page) stream(w http.ResponseWriter, r *http.Request) {
	l := p.enter()
	if l == nil {
		http.Error(w, "too many look at this page, or the service ends", http.StatusServiceUnavailable)
		return
	}
	defer p.leave(l)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // of a reverse proxy before this one
	out := http.NewResponseController(w)
	for {
		select {
		case m, open := <-l.messages:
			if !open {
				return
			}
			_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := w.Write(m); err != nil || out.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
