module github.com/vstp-go/vstp

go 1.26.0
