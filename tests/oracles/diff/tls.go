package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// With -tls both servers make certificates of their own, and every request goes over TLS. Who they are is not checked.
var overTLS bool

func tlsConfig(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
}

func transportCredentials() credentials.TransportCredentials {
	if overTLS {
		return credentials.NewTLS(tlsConfig())
	}
	return insecure.NewCredentials()
}

// A connection for frames that are written by hand.
func dialHTTP2(ctx context.Context, endpoint string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: time.Second}
	if !overTLS {
		return dialer.DialContext(ctx, "tcp", endpoint)
	}
	return (&tls.Dialer{NetDialer: &dialer, Config: tlsConfig("h2")}).DialContext(ctx, "tcp", endpoint)
}

func scheme() string {
	if overTLS {
		return "https://"
	}
	return "http://"
}

// HTTP/1.1 in both cases.
func httpTransport() http.RoundTripper {
	if overTLS {
		return tlsTransport
	}
	return http.DefaultTransport
}

var tlsTransport = &http.Transport{TLSClientConfig: tlsConfig()}
