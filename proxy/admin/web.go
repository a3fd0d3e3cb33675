package admin

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
	"gopkg.in/yaml.v3"
)

// CheckWeb says what is wrong with a file of TLS and users (Options.Web); empty is none.
func CheckWeb(file string) error {
	if err := web.Validate(file); err != nil {
		return fmt.Errorf("http_web_config: %s: %w", file, err)
	}
	return nil
}

// serveWeb serves by what a file says of TLS and users, which is read anew for every request.
func (s *Server) serveWeb(file string) error {
	return web.Serve(s.listener, s.http, &web.FlagConfig{WebConfigFile: &file}, slog.New(slog.DiscardHandler))
}

// Web is what the program itself must know of such a file.
type Web struct {
	Users map[string]string `yaml:"basic_auth_users"`
	TLS   struct {
		CertFile   string `yaml:"cert_file"`
		Cert       string `yaml:"cert"`
		ClientAuth string `yaml:"client_auth_type"`
	} `yaml:"tls_server_config"`
}

// ReadWeb reads a file; an empty name is an empty file.
func ReadWeb(file string) (w Web, err error) {
	if file == "" {
		return w, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return w, err
	}
	if err := yaml.Unmarshal(text, &w); err != nil {
		return w, fmt.Errorf("%s: %w", file, err)
	}
	if at := w.TLS.CertFile; at != "" && !filepath.IsAbs(at) {
		w.TLS.CertFile = filepath.Join(filepath.Dir(file), at)
	}
	return w, nil
}

// Encrypts reports whether connections are to be encrypted.
func (w *Web) Encrypts() bool { return w.TLS.CertFile != "" || w.TLS.Cert != "" }

// Client is how somebody on this host reaches the service: whatever name it is asked by, it is the one that has
// the file's certificate.
func (w *Web) Client() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // names and authorities; the certificate is compared instead
		VerifyConnection: func(c tls.ConnectionState) error {
			own := []byte(w.TLS.Cert)
			if w.TLS.CertFile != "" {
				var err error
				if own, err = os.ReadFile(w.TLS.CertFile); err != nil {
					return err
				}
			}
			if block, _ := pem.Decode(own); block == nil || !bytes.Equal(block.Bytes, c.PeerCertificates[0].Raw) {
				return errors.New("the certificate is not that of http_web_config")
			}
			return nil
		},
	}
}

// identifies reports whether nobody is served who has not said who it is.
func (w *Web) identifies() bool {
	return len(w.Users) > 0 || w.Encrypts() && w.TLS.ClientAuth == "RequireAndVerifyClientCert"
}

// private serves people: everybody whom the file identifies, and without that those on this host. A browser
// there that was led here by a name of another site is not served.
func private(file string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if by, err := ReadWeb(file); err != nil || !by.identifies() {
			if !fromHere(r) {
				http.Error(w, "without users or client certificates in http_web_config this page is shown on the host itself only", http.StatusForbidden)
				return
			}
			if !namesHost(r.Host) {
				http.Error(w, "ask for this page by an address, or by localhost", http.StatusMisdirectedRequest)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// namesHost reports whether a host is one that no other site can have for a name.
func namesHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || strings.EqualFold(host, "localhost")
}
