#!/bin/bash
# XRootD that takes a transfer by its token alone.
set -e
for file in xrootd.cfg scitokens.cfg; do
  sed -e "s/XRDHOST/$XRDHOST/g" -e "s/XRDPORT/$XRDPORT/g" "/configs/$file" >"/etc/xrootd/$file"
done
mkdir -p /etc/grid-security/xrd
cp /tmp/xrdcert.pem /tmp/xrdkey.pem /etc/grid-security/xrd/
chown -R xrootd:xrootd /etc/grid-security/xrd
chmod 0400 /etc/grid-security/xrd/xrdkey.pem
# libscitokens fetches the issuer's keys with the system's authorities.
cp /etc/grid-security/certificates/5fca1cb1.0 /etc/pki/ca-trust/source/anchors/rucio_ca.pem
update-ca-trust
cd /var/spool/xrootd
exec xrootd -R xrootd -n rucio -c /etc/xrootd/xrootd.cfg
