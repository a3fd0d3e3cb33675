package scram

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
)

// EndPoint is the one kind of channel binding PostgreSQL knows.
const EndPoint = "tls-server-end-point"

// EndPointData is the server certificate's hash that binds an exchange to its TLS
// channel (RFC 5929, 4.1). It is nil where the certificate's signature names no hash
// (Ed25519): there is no binding then.
func EndPointData(cert *x509.Certificate) []byte {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		h := sha256.Sum256(cert.Raw)
		return h[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h := sha512.Sum384(cert.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h := sha512.Sum512(cert.Raw)
		return h[:]
	}
	return nil
}
