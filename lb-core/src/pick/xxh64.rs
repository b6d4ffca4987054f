//! XXH64, the hash that Envoy and gRPC build their rings and tables with: for names and for callers' keys.

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

const BLOCK: usize = 32;

/// The hash of an affinity key, for `key` of [`Strategy::pick`](super::Strategy::pick): XXH64 with seed 0, as Envoy
/// hashes a header. Not secret and not collision-proof: whoever chooses keys can choose where they land.
///
/// Source: Yann Collet, xxHash, `doc/xxhash_spec.md`.
///
/// ```
/// assert_eq!(lb_core::pick::key_hash(b"user-17"), lb_core::pick::key_hash(b"user-17"));
/// assert_eq!(lb_core::pick::key_hash(b""), 0xEF46_DB37_51D8_E999);
/// ```
#[must_use]
pub fn key_hash(bytes: &[u8]) -> u64 {
    xxh64(bytes, 0)
}

/// XXH64 of bytes that are there in one piece.
pub(super) fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    let mut lanes = Lanes::new(seed);
    let mut rest = bytes;
    while let Some((block, after)) = rest.split_first_chunk::<BLOCK>() {
        lanes.block(block);
        rest = after;
    }
    finish(&lanes, seed, bytes.len() as u64, rest)
}

/// XXH64 of bytes that come in pieces; a copy goes on from a common beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Xxh64 {
    lanes: Lanes,
    seed: u64,
    total: u64,
    filled: usize,
    buffer: [u8; BLOCK],
}

impl Xxh64 {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            lanes: Lanes::new(seed),
            seed,
            total: 0,
            filled: 0,
            buffer: [0; BLOCK],
        }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        self.total = self.total.wrapping_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let fits = room.len().min(bytes.len());
            let (now, later) = bytes.split_at_checked(fits).unwrap_or((bytes, &[]));
            for (to, &from) in room.iter_mut().zip(now) {
                *to = from;
            }
            self.filled = self.filled.saturating_add(fits);
            if self.filled >= BLOCK {
                self.lanes.block(&self.buffer);
                self.filled = 0;
            }
            bytes = later;
        }
    }

    /// The hash of what was written and then of `end`, which is less than a block.
    pub(super) fn finish_with(&self, end: &[u8]) -> u64 {
        let mut lanes = self.lanes;
        let mut buffer = [0_u8; 2 * BLOCK];
        if let Some(head) = buffer.first_chunk_mut::<BLOCK>() {
            *head = self.buffer;
        }
        let filled = self.filled.wrapping_add(end.len());
        let room = buffer.get_mut(self.filled..).unwrap_or_default();
        for (to, &from) in room.iter_mut().zip(end) {
            *to = from;
        }
        let total = self.total.wrapping_add(end.len() as u64);
        let mut rest = buffer.get(..filled).unwrap_or_default();
        if let Some((block, after)) = rest.split_first_chunk::<BLOCK>() {
            lanes.block(block);
            rest = after;
        }
        finish(&lanes, self.seed, total, rest)
    }
}

#[derive(Clone, Copy, Debug)]
struct Lanes([u64; 4]);

impl Lanes {
    const fn new(seed: u64) -> Self {
        Self([
            seed.wrapping_add(P1).wrapping_add(P2),
            seed.wrapping_add(P2),
            seed,
            seed.wrapping_sub(P1),
        ])
    }

    fn block(&mut self, block: &[u8; BLOCK]) {
        for (lane, word) in self.0.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }

    fn merge(&self) -> u64 {
        let [a, b, c, d] = self.0;
        let sum = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
        self.0.iter().fold(sum, |hash, &lane| {
            (hash ^ round(0, lane)).wrapping_mul(P1).wrapping_add(P4)
        })
    }
}

const fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2))
        .rotate_left(31)
        .wrapping_mul(P1)
}

/// `rest` is what is left after the whole blocks.
fn finish(lanes: &Lanes, seed: u64, total: u64, rest: &[u8]) -> u64 {
    let start = if total >= BLOCK as u64 {
        lanes.merge()
    } else {
        seed.wrapping_add(P5)
    };
    let mut hash = start.wrapping_add(total);
    let (words, mut rest) = rest.as_chunks::<8>();
    for word in words {
        hash = (hash ^ round(0, u64::from_le_bytes(*word)))
            .rotate_left(27)
            .wrapping_mul(P1)
            .wrapping_add(P4);
    }
    if let Some((half, after)) = rest.split_first_chunk::<4>() {
        hash = (hash ^ u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1))
            .rotate_left(23)
            .wrapping_mul(P2)
            .wrapping_add(P3);
        rest = after;
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5))
            .rotate_left(11)
            .wrapping_mul(P1);
    }
    avalanche(hash)
}

/// XXH64's last step: a bijection that spreads every bit.
pub(super) const fn avalanche(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// The bytes that the vectors below were made of: no two lengths share a tail.
    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * i + 7 * i + length) as u8).collect()
    }

    /// From the reference implementation (Python's `xxhash` over the C library), seeds 0, 1 and 2^64 - 1.
    const VECTORS: [[u64; 3]; 101] = [
        [
            0xEF46_DB37_51D8_E999,
            0xD5AF_BA13_36A3_BE4B,
            0x298F_4C84_B24F_5380,
        ],
        [
            0x8A41_2781_1B21_E730,
            0x6EC2_195F_FCAA_3025,
            0x0000_0000_0000_0000,
        ],
        [
            0xD6DE_A051_A15B_43AC,
            0x759F_AFD7_5DA6_29C0,
            0x9886_590A_77D2_FC25,
        ],
        [
            0x0392_5F88_1277_ED8A,
            0x6B59_EF78_B6BC_680F,
            0xE031_4A29_20CF_CC55,
        ],
        [
            0x2216_BA8B_C130_153F,
            0xFF12_68FF_28CA_0C07,
            0x1223_5831_C2C1_8DE9,
        ],
        [
            0x2C2D_C5D5_B063_C4EE,
            0x8209_E723_21D8_3BC5,
            0xE75C_8B96_CEFD_5B9A,
        ],
        [
            0xA0F5_88C7_29C8_1A3B,
            0xF3BE_E936_FAE1_63B4,
            0xACB8_091A_943E_C516,
        ],
        [
            0x4C39_252D_292B_C210,
            0x0BDE_46FD_9F9F_1FA0,
            0x2D6C_B98D_B330_8E4E,
        ],
        [
            0xC2C3_9525_FF85_AB20,
            0x5E40_1692_601D_8E16,
            0x6A53_9ABF_2640_5CD2,
        ],
        [
            0x523F_4870_732F_208C,
            0x45E9_5E29_23E7_D186,
            0xF45D_4343_85B1_2FEC,
        ],
        [
            0x2F46_3EAD_F625_5868,
            0xC898_E2D4_8242_2512,
            0x6BC7_2D58_9A9A_CFBF,
        ],
        [
            0x3A2D_68FA_BA83_FCD8,
            0x9B50_2A14_D1A0_EBA4,
            0x2CE5_EF47_FCF2_E091,
        ],
        [
            0xADB7_F8BC_E2DF_FBB2,
            0x6BB4_E0A5_546D_BF20,
            0xB8AB_A4B6_E042_28A3,
        ],
        [
            0x9A41_9A2E_D393_6394,
            0xE521_EB01_BCF9_4EED,
            0x865E_1280_78FF_A4B1,
        ],
        [
            0xB252_AE21_3024_FF12,
            0xC013_71AE_0C30_C27E,
            0xDBF1_330E_07A8_81E0,
        ],
        [
            0x11AC_8834_3BD7_CB2F,
            0x0D26_C1E9_F6A5_5E1C,
            0xC59C_BBCB_A681_9A27,
        ],
        [
            0x410E_4735_B55D_FD5E,
            0xB669_15F1_3FB5_0588,
            0x8268_0140_5FCA_1FB9,
        ],
        [
            0x1BC2_2DB7_1724_DF3A,
            0x44AD_B31F_8B5B_CB30,
            0xF4BA_E657_70F3_652D,
        ],
        [
            0xB819_9890_38C5_19BE,
            0x68FB_E8E7_4FCB_9FCA,
            0xBA67_C999_2F81_57EF,
        ],
        [
            0xC1C5_5C4D_B28D_4A54,
            0xA25E_BA45_05B3_7868,
            0x30DB_874F_0FC4_449C,
        ],
        [
            0x593A_99AE_CDC3_FF66,
            0x7D3D_C97A_1A4B_6740,
            0x862F_70FE_11AE_0452,
        ],
        [
            0xE81D_DA0D_C68E_DDCB,
            0x8199_1E70_FBBA_9DA2,
            0xE20C_5E4E_87A7_CDC6,
        ],
        [
            0x1D99_E899_EE37_5575,
            0x6205_671F_0ECE_0BF8,
            0x0AE1_1AFB_84C4_21EE,
        ],
        [
            0xB9ED_9C4A_CB2E_07E0,
            0x0F32_3DA7_972F_C753,
            0x7E20_643C_DA7E_DB20,
        ],
        [
            0x24D6_4128_9E67_F467,
            0x4825_B580_CC5C_E3D6,
            0xF25B_06E6_D7C7_1120,
        ],
        [
            0x1C82_DDC3_CB17_6F73,
            0x90C3_8AA1_6A99_48BF,
            0x03D0_5566_CE85_5030,
        ],
        [
            0x2D60_67E6_9808_F041,
            0xBDFE_F865_361E_6B26,
            0x649E_3C25_FC80_0E2B,
        ],
        [
            0x4646_7DDF_72DD_1FFF,
            0xE0CD_179B_DFD5_AD8D,
            0x7AE4_F7AB_CB73_AD54,
        ],
        [
            0x3177_CEEF_0513_1A8D,
            0x7AE6_C82E_8E7C_5F00,
            0xFEA5_0B39_FE2D_96B8,
        ],
        [
            0x641B_B7A1_64C9_C5B0,
            0xAAAB_B9E9_8687_085B,
            0xAC4F_A5D9_1E30_8486,
        ],
        [
            0x8E9C_8A79_75A4_5CD6,
            0xA131_4F50_FAB0_2246,
            0x742E_64E6_371B_8F83,
        ],
        [
            0x550A_2158_6639_7C19,
            0x3FB3_8280_D438_69B7,
            0x99F2_1A88_0ACA_BD9C,
        ],
        [
            0xBEE1_7810_F800_6B63,
            0x5CA3_ED63_2A86_5947,
            0x5BD3_DD3F_34D1_BC51,
        ],
        [
            0xB335_C048_0302_8C1D,
            0x7856_6F55_3965_EF94,
            0x9DD6_740F_877F_74A8,
        ],
        [
            0x20F3_54AB_3CDF_3B2E,
            0x7BDA_3ADB_8292_0C61,
            0x4200_D161_0538_08B0,
        ],
        [
            0xB23B_C463_79D9_F2A4,
            0xFFCD_C568_F966_CCA0,
            0x163E_1E98_1332_570D,
        ],
        [
            0x602B_96CD_C820_F064,
            0x3770_970F_CB03_5FFC,
            0x5066_D943_4015_A373,
        ],
        [
            0x5D50_54ED_CA7A_9D43,
            0xCFE6_E895_5DF8_9417,
            0x8AAF_1036_76D7_5A03,
        ],
        [
            0x9F8B_161E_36C0_234C,
            0xB40F_3EF9_FFB5_11CB,
            0xA008_DAF6_CD85_8B4F,
        ],
        [
            0x982A_8DFD_BBFF_6FA4,
            0x45FB_88C4_F9B9_A6AA,
            0xA444_C58B_AF6B_D215,
        ],
        [
            0xA67D_BA8E_AA3C_6822,
            0x9698_D11F_9D49_A35C,
            0x1A89_EDCA_8DBA_5A18,
        ],
        [
            0x9A8A_F7DD_111D_BDA7,
            0x92ED_61EA_7A5E_3B47,
            0x8E22_1D0B_9900_BBB2,
        ],
        [
            0x3056_63EF_7C46_4960,
            0x83B5_22F0_76F6_576C,
            0x6B32_62E7_516F_CF43,
        ],
        [
            0x7BDC_65E1_1CD9_0805,
            0x5AE3_1838_6F12_6FD5,
            0xFF9F_59D8_4C56_BBCA,
        ],
        [
            0x05F6_A60E_F476_0ED3,
            0x81A3_6AB4_62A5_D9EF,
            0xFCD9_D194_4504_396C,
        ],
        [
            0x3448_1F9B_63B2_0420,
            0xB647_07CF_EE8D_96C8,
            0x706C_1DA0_0759_D4B9,
        ],
        [
            0x8305_7746_4A7C_BE2D,
            0x60F0_F70D_6D62_0DCA,
            0x93DA_0CAB_102F_4FA7,
        ],
        [
            0xDBC5_3E0F_4226_2704,
            0xCB95_6E71_39DC_6736,
            0x9F15_86B5_83C9_9F6E,
        ],
        [
            0x20BD_2D96_F331_5480,
            0xFB56_F983_2A29_1EB0,
            0xA94F_E19C_B01F_D83A,
        ],
        [
            0x0BC8_C798_446F_CCCF,
            0xF9D0_BAE8_CB59_C669,
            0x42FA_355D_11E8_20B4,
        ],
        [
            0xBF89_7E20_6D0B_E183,
            0xC4F4_B988_0340_D42C,
            0xEF32_DCE0_C24A_2186,
        ],
        [
            0xA4CF_F60A_7132_D0AC,
            0x84FB_1167_BBEA_B52F,
            0x459C_F6B6_53CB_03A9,
        ],
        [
            0xE2EA_E900_B778_A03E,
            0xB213_C6A6_953F_E774,
            0x043F_7B89_A7F0_2EEE,
        ],
        [
            0x8358_0690_1638_0560,
            0xBD35_2646_DD40_1FC9,
            0x8350_3F83_668D_772F,
        ],
        [
            0xBF95_9FD8_CC92_E8B0,
            0x6CE1_B853_7216_19C5,
            0x5452_F56F_BAF0_8DBA,
        ],
        [
            0x0AFE_2536_0B66_AE6D,
            0xE360_D43B_8364_D3F1,
            0x45AF_6EA7_BA22_6F62,
        ],
        [
            0xAEA1_D034_D14B_DFF4,
            0xD2D6_B4A0_6672_7038,
            0xEFB6_1EEA_F51B_1A7F,
        ],
        [
            0x676C_3118_90CE_DF78,
            0xFF36_C19C_1FAA_1EBC,
            0x0DF4_5122_9002_F34C,
        ],
        [
            0xEDFC_5ED5_FD31_DF4B,
            0x8CB2_7C30_F3BC_5026,
            0x0E18_568E_09E6_A1A0,
        ],
        [
            0x900A_B50F_9427_3B0A,
            0x7D72_85BD_E353_1E5B,
            0x2B4B_FC39_01C6_B483,
        ],
        [
            0x8701_353B_6C86_B251,
            0xE0C4_A68D_D390_1E16,
            0x8A08_F381_0E39_8F51,
        ],
        [
            0x9EF8_0453_26FB_90CD,
            0x4DAB_0683_6AE1_98DE,
            0xC6FA_486B_A288_5126,
        ],
        [
            0x2C24_A521_3B45_A7C4,
            0xC758_8FC5_6AAD_F748,
            0xCD80_47E0_0C92_0393,
        ],
        [
            0xF35F_A151_E490_3AF6,
            0x8EDA_431B_DF17_6076,
            0xB79E_D298_4F17_DB45,
        ],
        [
            0xB9A3_97C5_8FFA_E3D6,
            0xF26A_DD38_ED1C_1621,
            0xE436_5E8E_9B1A_669D,
        ],
        [
            0x614E_BEE0_5B32_9F8C,
            0x2273_F6BF_9CF9_DE58,
            0x753C_FE6F_8AF4_9D71,
        ],
        [
            0x9B76_6E50_9EDF_7232,
            0x93E1_A47B_31A6_0FFD,
            0x2553_50E8_7651_DC38,
        ],
        [
            0xE036_D748_4105_21C4,
            0xDBCC_B044_CD38_E331,
            0x1839_3854_B53A_0F9E,
        ],
        [
            0x9B88_0B89_E773_C83C,
            0x5A8E_C9F5_59E9_F389,
            0xED03_6664_A156_0BFD,
        ],
        [
            0x93D9_54EE_D8FD_088E,
            0xF10D_5D4D_CB8F_A7FC,
            0xF00D_BD5E_D5BD_74C4,
        ],
        [
            0x6A0C_3E58_0620_F44F,
            0x8706_E591_64B1_83B8,
            0xA398_4F67_3A0D_1AB3,
        ],
        [
            0xC6BE_84E0_A775_D79E,
            0x27D3_25BA_4D0B_229A,
            0xE312_D143_405D_6F95,
        ],
        [
            0x956F_53DE_2C24_3E9C,
            0x268F_86D2_6E26_D775,
            0xA617_F6F3_2EFC_FCBF,
        ],
        [
            0x85A5_FB16_C02E_0DCE,
            0xF3CD_86C1_30AA_F220,
            0xDF0B_92C8_7B37_697C,
        ],
        [
            0x3E7D_5D13_1244_CD56,
            0xED2C_C592_BF09_D72B,
            0x6F73_0242_E527_26E5,
        ],
        [
            0xD8F2_56AF_FF2C_2341,
            0xF091_038E_19A6_CFD7,
            0x0D02_B125_2A3F_A8E9,
        ],
        [
            0xB519_312C_E0A2_3012,
            0x4806_8541_EB84_6D12,
            0xEE7F_86EC_27C0_9C2C,
        ],
        [
            0xB539_D705_EA05_7681,
            0xF60F_3BAC_9F0F_D63F,
            0x7807_155A_2CDF_3B84,
        ],
        [
            0xC6E6_97B8_7C8E_A9D3,
            0x8117_4025_7B09_710E,
            0x8E82_2C0C_2297_3B17,
        ],
        [
            0xAD8E_00AC_A405_F4B6,
            0x399F_97C2_92AA_0AA2,
            0xD130_2E2D_955E_F1EA,
        ],
        [
            0x365A_C63B_CBF0_4E81,
            0x9ADD_3080_0437_7787,
            0x61D0_32CF_984A_3623,
        ],
        [
            0x417A_DF94_B86F_78E6,
            0xD8CD_BF67_FDA6_83F4,
            0x2832_ECB9_A5B4_6786,
        ],
        [
            0x3586_DF1B_8B48_CEF8,
            0xD69C_0657_F6E6_53E5,
            0x33AB_D829_500A_826D,
        ],
        [
            0xB37F_CBB5_AE97_A1A6,
            0x56DA_3AE9_50C1_4B32,
            0x0AE3_3653_9780_83B7,
        ],
        [
            0xB0D5_FA98_00DC_2EB5,
            0xAD83_DF0D_EAE4_FEA8,
            0x5054_1D28_1DBC_E370,
        ],
        [
            0x3400_A104_6C73_8A81,
            0x6FD4_6ED8_E3E6_4030,
            0x0BDB_CC55_F595_D6C2,
        ],
        [
            0x08C9_5B12_D6EA_8EBD,
            0x7C85_A868_938F_0FA6,
            0x69E3_4FAF_4ABC_CAC9,
        ],
        [
            0x6511_F086_5422_2597,
            0xB72D_331E_309D_C6D8,
            0xCC2F_C7E6_222E_13A8,
        ],
        [
            0xEB9D_07A9_A37C_C32A,
            0x1035_BAFE_F282_1A25,
            0xE440_77F5_E4D9_A966,
        ],
        [
            0xAF81_5416_A344_497D,
            0x6DA6_7502_E44D_C172,
            0x49C7_DD56_DA03_34F8,
        ],
        [
            0x4DBE_6892_2BF5_F1AA,
            0x84B0_5A48_DCEF_C183,
            0x9894_44E3_8EFC_C87E,
        ],
        [
            0x91ED_618C_FA45_4799,
            0x8E2F_B0E4_322D_D873,
            0xD4F6_AEC7_1184_12C2,
        ],
        [
            0xBB92_E198_4BB1_0E29,
            0x3474_A0C8_0762_41C0,
            0x7C74_7E65_1BEE_CA6C,
        ],
        [
            0xDA97_E568_99F2_5BBB,
            0x81F3_E0C7_5536_EC4F,
            0x8C14_0235_9FDC_01C0,
        ],
        [
            0xB9A0_B9E4_BFDB_8BFC,
            0x7527_20F2_9CC6_B80A,
            0x5EEB_42D1_2C06_37F1,
        ],
        [
            0x1797_CE91_8045_B97D,
            0x3749_9E19_6947_62AF,
            0x364B_FCE5_7219_840A,
        ],
        [
            0x8B0F_40A7_FE3E_4121,
            0x3138_777A_824D_D338,
            0xA814_1568_EBA3_9D5F,
        ],
        [
            0x8676_BF8A_2E04_0CB4,
            0x38DB_AC26_8A10_D44C,
            0x585F_95A4_32F6_52FA,
        ],
        [
            0x7F56_8C0C_0D0F_555B,
            0x9EBA_3134_74CD_E9A0,
            0x2330_7344_0F85_D337,
        ],
        [
            0xEE8D_48AF_CB9D_E550,
            0xD19D_ED41_10FB_70ED,
            0x778B_E7F0_66E7_311A,
        ],
        [
            0xBB14_3EF4_75C4_32F2,
            0x9B7B_B00F_76A5_5FAE,
            0x7390_C49B_7FB5_98F9,
        ],
    ];

    #[test]
    fn is_the_reference() {
        for (length, expected) in VECTORS.iter().enumerate() {
            let bytes = bytes(length);
            let seeds = [0, 1, u64::MAX];
            assert_eq!(seeds.map(|seed| xxh64(&bytes, seed)), *expected, "{length} bytes");
            for cut in [0, 1, 31, 32, 33, length / 2, length] {
                let (head, tail) = bytes.split_at(cut.min(length));
                let pieces = seeds.map(|seed| {
                    let mut hash = Xxh64::new(seed);
                    let (middle, end) = tail.split_at(tail.len().saturating_sub(BLOCK - 1));
                    hash.write(head);
                    hash.write(middle);
                    hash.finish_with(end)
                });
                assert_eq!(pieces, *expected, "{length} bytes cut at {cut}");
            }
        }
    }
}
